import struct
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matlab_files import write_version_73
from partalign.errors import DatasetError, EvaluationError, MatlabError
from partalign.matlab import read_variables

NUMBERS = arrays.arrays(
    st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"]),
    arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4),
)
WORDS = st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), min_size=1), min_size=1, max_size=5)
NAMES = st.from_regex("[a-z]{1,9}", fullmatch=True)


def cells(values: list) -> np.ndarray:
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def refused(path, names, told, **options):
    with pytest.raises(MatlabError) as caught:
        read_variables(path, names, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert told in message


def test_the_error_is_one_of_data_sets_and_of_descriptors():
    assert issubclass(MatlabError, DatasetError)
    assert issubclass(MatlabError, EvaluationError)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, NUMBERS), WORDS, st.booleans())
def test_reads_what_scipy_writes(tmp_path_factory, numbers, words, packed):
    path = tmp_path_factory.getbasetemp() / "written.mat"
    scipy.io.savemat(path, {**numbers, "Words": cells(words)}, do_compression=packed)
    read = read_variables(path, [*numbers, "Words"])
    assert read.pop("Words").tolist() == [[word] for word in words]
    assert read.keys() == numbers.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, numbers[name])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, NUMBERS), WORDS)
def test_both_versions_are_read_alike(tmp_path_factory, numbers, words):
    folder = tmp_path_factory.getbasetemp()
    content = {**numbers, "Cells": cells([*words, 2.0, None]), "Rows": np.array(words)}
    read = read_variables(write_version_73(folder / "73.mat", content), content)
    content["Cells"][-1, 0] = np.empty((0, 0))
    scipy.io.savemat(folder / "5.mat", content)
    expected = read_variables(folder / "5.mat", content)
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        if array.size:
            np.testing.assert_array_equal(read[name], array)
        else:
            assert not read[name].size


def test_rows_of_text_and_the_shape_of_cells(tmp_path):
    content = {"rows": np.array(["Zoë", "a", "日本"]), "cells": np.array([["a", "bc", "d"], [1.5, None, 3]], object)}
    path = write_version_73(tmp_path / "73.mat", content)
    found = read_variables(path, ["rows", "cells"])
    assert found["rows"].tolist() == ["Zoë", "a  ", "日本 "]
    assert found["cells"].tolist() == [["a", "bc", "d"], [1.5, None, 3.0]]


def test_arrays_that_matlab_has_not_written_lie_as_they_are(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["vectors"] = np.arange(6).reshape(2, 3)
        file["labels"] = np.arange(2)
        file["scalar"] = 7
    found = read_variables(tmp_path / "x.h5", ["vectors", "labels", "scalar", "more"], missing_ok=True)
    assert {name: value.tolist() for name, value in found.items()} == {
        "vectors": [[0, 1, 2], [3, 4, 5]], "labels": [0, 1], "scalar": [7],
    }  # fmt: skip
    refused(tmp_path / "x.h5", ["vectors", "more"], "no more")


def test_numbers_and_texts_of_all_types_are_read_as_scipy_reads_them(tmp_path):
    content = {f"query_{t}": np.arange(12, dtype=t).reshape(3, 4) for t in ("i1", "u2", "i4", "f4", "f8", "i8")}
    content["query_text"] = np.array(["Zoë", "a", "日本"])
    scipy.io.savemat(tmp_path / "x.mat", content)
    found, expected = read_variables(tmp_path / "x.mat", content), scipy.io.loadmat(tmp_path / "x.mat")
    for name in content:
        np.testing.assert_array_equal(found[name], expected[name])


def test_files_of_the_other_byte_order_are_read(tmp_path):
    header = struct.pack(">10I", 6, 8, 6, 0, 5, 8, 2, 3, 1, 7) + b"query_f\0"
    parts = header + struct.pack(">II6d", 9, 48, *range(6))
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\1\0MI" + struct.pack(">II", 14, len(parts)) + parts)
    found = read_variables(tmp_path / "x.mat", ["query_f"])["query_f"]
    np.testing.assert_array_equal(found, [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(found, scipy.io.loadmat(tmp_path / "x.mat")["query_f"])


def test_other_variables_are_passed_over(tmp_path):
    path = tmp_path / "a.mat"
    content = {"one": {"a": 1}, "two": cells([cells(["x"])]), "three": np.arange(3), "four": np.ones(2) + 1j}
    scipy.io.savemat(path, {**content, "five": cells([np.arange(2)])})
    assert read_variables(path, ["three"])["three"].tolist() == [[0, 1, 2]]
    assert read_variables(path, ["three", "six"], missing_ok=True).keys() == {"three"}
    refused(path, ["one"], "one is neither numbers nor text: class 2")
    refused(path, ["two"], "cells in cells")
    refused(path, ["four"], "four is neither numbers nor text: class 6, flags 0x806")
    refused(path, ["five"], "one number or text in each cell, found several")
    refused(path, ["three", "six"], "no six")


def test_cells_in_cells_of_version_73_are_not_read(tmp_path):
    path = write_version_73(tmp_path / "73.mat", {"cells": np.array([["a", "b"]], object)})
    with h5py.File(path, "r+") as file:
        file["cells"][0, 0] = file["cells"].ref  # a cell that holds itself
    refused(path, ["cells"], "expected numbers, text or cells")


def test_large_files_are_not_read(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"zeros": np.zeros((1000, 1000))}, do_compression=True)
    assert not read_variables(path, ["zeros"])["zeros"].any()
    refused(path, ["zeros"], "more than 7,999,999 bytes unpacked", max_bytes=7_999_999)
    refused(path, ["zeros"], "more than 100 bytes", max_bytes=100)


@pytest.mark.parametrize("packed", [True, False])
def test_a_large_matrix_is_held_once(tmp_path, packed):
    path, matrix = tmp_path / "a.mat", np.random.default_rng(0).random((500, 1000))
    scipy.io.savemat(path, {"query_f": matrix}, do_compression=packed)
    tracemalloc.start()
    try:
        found = read_variables(path, ["query_f"])["query_f"]
        assert tracemalloc.get_traced_memory()[1] < 1.3 * matrix.nbytes
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, matrix)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(1, b""), (4, struct.pack("<II", 16, 0)), (6, struct.pack("<II", 9, 0))],
    ids=["cell", "char", "f8"],
)
def test_two_thousand_million_rows_of_nothing_take_no_memory(tmp_path, kind, data):
    head = struct.pack("<10I", 6, 8, kind, 0, 5, 8, 2**31 - 1, 0, 1 + (1 << 16), ord("x")) + data
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 14, len(head)) + head)
    tracemalloc.start()
    try:
        assert read_variables(tmp_path / "x.mat", ["x"])["x"].size == 0
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", params=[True, False], ids=["packed", "plain"])
def sound(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "sound.mat"
    content = {"words": cells([f"{number}_a.png" for number in range(9)]), "numbers": np.arange(12.0)}
    scipy.io.savemat(path, content, do_compression=request.param)
    return path, path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_noticed_or_harmless(sound, data):
    """SciPy's reader ends the process on some of these files."""
    path, content = sound
    damaged = bytearray(content[: data.draw(st.integers(128, len(content)))])
    places = st.tuples(st.integers(128, len(damaged)), st.sampled_from([0, 1, 2, 4, 15, 16, 127, 240, 255]))
    for place, byte in data.draw(st.lists(places, max_size=4)):
        damaged[place : place + 1] = bytes([byte])
    copy = path.with_name("damaged.mat")
    copy.write_bytes(damaged)
    told, tables = "", {}
    try:
        tables = read_variables(copy, ["words", "numbers"])
    except MatlabError as error:
        told = str(error)
    assert "\n" not in told
    assert tables or "damaged.mat: damaged or of another content" in told
    assert sum(table.nbytes for table in tables.values()) < len(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "found an empty file; save or download it again"),
        (
            b"\n<!DOCTYPE html><html>",
            "expected a MATLAB file of version 5 or a MATLAB file of version 7.3, found a web page",
        ),
        (b"PK\3\4", "found a zip file, to be unpacked"),
        (struct.pack("<5I", 0, 3, 3, 0, 8) + bytes(100), "found another kind of file, or version 4"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "damaged or of another content"),
    ],
)
def test_other_files_are_told_by_their_first_bytes(tmp_path, content, told):
    (tmp_path / "x.mat").write_bytes(content)
    refused(tmp_path / "x.mat", ["x"], told)


def test_what_cannot_be_opened_is_one_line(tmp_path):
    refused(tmp_path / "none.mat", ["x"], "cannot read it (No such file or directory); check the path")
    refused(tmp_path, ["x"], "cannot read it (Is a directory)")


@pytest.mark.shared
def test_real_files_are_read_as_scipy_reads_them(shared):
    files = sorted((shared / "data" / "protocols").rglob("*.mat"))
    assert len(files) >= 5
    for path in files:
        expected = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
        found = read_variables(path, list(expected))
        assert set(found) == set(expected)
        for name, value in expected.items():
            if value.dtype == object:
                value = np.array([cell.item() for cell in value.flat], dtype=object).reshape(value.shape)
            np.testing.assert_array_equal(found[name], value, strict=value.dtype == object)
