import io
import random
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io

from matlab_files import write_version_73
from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError, MissingExtraError, PartAlignError
from partalign.evaluation.evaluate import Descriptors, score
from partalign.evaluation.features import load_features

PEOPLE = {"query": [1, 2, 3], "gallery": [1, 2, 3, 2, 0, -1]}
CAMERAS = {"query": [1, 1, 2], "gallery": [2, 2, 1, 1, 3, 3]}


def arrays(**changes):
    """What the PyTorch baseline saves: rows of any length, labels and cameras as 1 x N whole numbers."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 8))
    content = {}
    for part, people in PEOPLE.items():
        rows = centres[people] + 0.1 * rng.standard_normal((len(people), 8))
        content[f"{part}_f"] = (rows * rng.uniform(0.1, 40, (len(people), 1))).astype(np.float32)
        content[f"{part}_label"] = np.array([people])
        content[f"{part}_cam"] = np.array([CAMERAS[part]])
    return {name: value for name, value in (content | changes).items() if value is not None}


POOL = {"mquery_f": np.eye(8, dtype=np.float32)[:4], "mquery_label": [1, 1, 2, 3], "mquery_cam": [1, 1, 1, 2]}


def write(path, content):
    """Save as .npz, .mat (version 5, packed or not) or .h5 (version 7.3 as MATLAB writes it), by the name."""
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, content, do_compression="packed" in path.name)
    else:
        write_version_73(path, content)
    return path


def refused(path, **options):
    """The one line by which the file is refused."""
    with pytest.raises(EvaluationError) as caught:
        load_features(path, **options)
    message = str(caught.value)
    assert str(path.name) in message
    assert "\n" not in message
    return message


FORMATS = ["result.npz", "result.mat", "packed.mat", "result.h5"]


@pytest.mark.parametrize("name", FORMATS)
def test_divided_files_of_the_pytorch_baseline_are_read(tmp_path, name):
    content = arrays()
    found = load_features(write(tmp_path / name, content))
    assert isinstance(found, Descriptors)
    assert found.pool is None
    for part, side in (("query", found.query), ("gallery", found.gallery)):
        rows = content[f"{part}_f"].astype(np.float64)
        np.testing.assert_allclose(side.vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)
        assert side.vectors.dtype == np.float32
        assert [c.camera for c in side.crops] == [f"c{camera}" for camera in CAMERAS[part]]
    assert [c.person for c in found.query.crops] == ["0001", "0002", "0003"]
    assert [c.person for c in found.gallery.crops] == ["0001", "0002", "0003", "0002", "0000", "-1"]
    assert len({c.path for side in (found.query, found.gallery) for c in side.crops}) == 9
    scores = score(found.query, found.gallery)
    assert (scores.rank(1), scores.mAP, scores.counts.junk, scores.counts.distractors) == (1.0, 1.0, 1, 1)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "people",
    [
        np.array([[1.0, 2.0, 3.0]]), np.array([[1], [2], [3]], np.int16), np.array(["1", "02", "0003"]),
        np.array([["0001", "0002", "3"]], object),
    ],
    ids=["float", "column", "text", "cells"],
)  # fmt: skip
@pytest.mark.parametrize("cameras", [[1.0, 1.0, 2.0], ["c1", "1 ", "C2"]], ids=["float", "text"])
def test_labels_of_any_type_are_the_same_persons(tmp_path, name, people, cameras):
    if name.endswith("npz") and people.dtype == object:
        people = people.astype("S")  # bytes, as Python 2 wrote them
    found = load_features(write(tmp_path / name, arrays(query_label=people, query_cam=np.array(cameras))))
    assert isinstance(found, Descriptors)
    assert [c.person for c in found.query.crops] == ["0001", "0002", "0003"]
    assert [c.camera for c in found.query.crops] == ["c1", "c1", "c2"]


def test_names_that_are_no_numbers_stay(tmp_path):
    labels = np.array(["anna", "7b", "v1.5"])
    found = load_features(write(tmp_path / "x.npz", arrays(query_label=labels, query_cam=np.array(["lobby", "c", ""]))))
    assert isinstance(found, Descriptors)
    assert [(c.person, c.camera) for c in found.query.crops] == [("anna", "lobby"), ("7b", "c"), ("v1.5", None)]


@pytest.mark.parametrize("name", FORMATS)
def test_multi_query_pool_lies_in_the_file_or_beside_it(tmp_path, name):
    alone = write(tmp_path / name, arrays())
    assert "found it neither there nor in multi_query.mat" in refused(alone, multi_query=True)
    write(tmp_path / "multi_query.mat", POOL)
    beside = load_features(alone, multi_query=True)
    within = load_features(write(tmp_path / f"both-{name}", arrays(**POOL)), multi_query=True)
    for found in (beside, within):
        assert isinstance(found, Descriptors)
        assert found.pool is not None
        assert [(c.person, c.camera) for c in found.pool.crops] == [
            ("0001", "c1"), ("0001", "c1"), ("0002", "c1"), ("0003", "c2"),
        ]  # fmt: skip
    (tmp_path / "multi_query.mat").write_bytes(b"broken")
    with pytest.raises(EvaluationError, match=r"multi_query\.mat: cannot be read"):
        load_features(alone, multi_query=True)
    assert isinstance(load_features(alone), Descriptors)  # and is not looked at where it is not asked for


def test_unit_vectors_keep_every_bit(tmp_path):
    rows = arrays()["query_f"]
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    found = load_features(write(tmp_path / "x.mat", arrays(query_f=rows)))
    assert isinstance(found, Descriptors)
    np.testing.assert_array_equal(found.query.vectors, rows)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"query_label": None}, "expected query_label, found query_f, query_cam"),
        ({"gallery_f": None, "gallery_label": None}, "expected gallery_f and gallery_label"),
        ({"query_label": np.array([[1, 2]])}, "query_label for each of the 3 rows of query_f (3, 8), found 2"),
        ({"query_cam": np.array([[1, 2, 3, 4]])}, "rows of query_f (3, 8), found 4"),
        ({"query_f": arrays()["query_f"].T}, "query_label for each of the 8 rows of query_f (8, 3), found 3"),
        ({"query_f": np.ones((3, 7))}, "descriptors of one size, found 7, 8"),
        ({"query_f": np.full((3, 8), np.nan)}, "3 of 3 descriptors are not finite or zero"),
        ({"query_f": np.diag([1.0, 0, 1])[:, [0, 1, 2, 2, 2, 2, 2, 2]]}, "1 of 3 descriptors are not finite or zero"),
        ({"query_f": np.full((3, 8), np.inf)}, "3 of 3"),
        ({"query_label": np.array([[1.5, 2, 3]])}, "text or whole numbers, found 1.5"),
        ({"query_label": np.array([[np.inf, 2, 3]])}, "text or whole numbers, found inf"),
        ({"query_f": np.array(["a", "b", "c"])}, "query_f to have a row of numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_in_one_line(tmp_path, name, changes, told):
    assert told in refused(write(tmp_path / name, arrays(**changes)))


def test_cameras_may_be_missing(tmp_path):
    found = load_features(write(tmp_path / "x.mat", arrays(query_cam=None, gallery_cam=None)))
    assert isinstance(found, Descriptors)
    assert {c.camera for c in found.gallery.crops} == {None}


def bag():
    crops = [Crop(Path(f"data/query/{i}.jpg"), p, "c1", "t7", 1.5 * i) for i, p in enumerate(["0001", "7", None])]
    rows = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)
    return Embeddings(rows / np.linalg.norm(rows, axis=1, keepdims=True), tuple(crops))


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_our_own_files_are_a_bag_of_crops(tmp_path, name):
    bag().save(tmp_path / name)
    found = load_features(tmp_path / name, multi_query=True)
    assert isinstance(found, Embeddings)
    assert found.crops == bag().crops
    np.testing.assert_array_equal(found.vectors, bag().vectors)
    (tmp_path / name).rename(tmp_path / "named otherwise")
    assert load_features(tmp_path / "named otherwise").crops == bag().crops  # type: ignore[union-attr]


def table(**changes):
    people = [*PEOPLE["query"], *PEOPLE["gallery"]]
    content = {
        "path": [f"{i}.jpg" for i in range(9)],
        "person": people,
        "camera": [*CAMERAS["query"], *CAMERAS["gallery"]],
        "part": ["query"] * 3 + ["gallery"] * 6,
        "embedding": np.vstack([arrays()["query_f"], arrays()["gallery_f"]]).tolist(),
    }
    return {name: column for name, column in (content | changes).items() if column is not None}


def write_table(path, content):
    pyarrow.parquet.write_table(pyarrow.table(content), path)
    return path


def test_parquet_may_say_what_is_query_and_what_gallery(tmp_path):
    found = load_features(write_table(tmp_path / "x.parquet", table()))
    expected = load_features(write(tmp_path / "x.npz", arrays()))
    assert isinstance(found, Descriptors)
    assert isinstance(expected, Descriptors)
    for ours, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(ours.vectors, other.vectors)
        assert [(c.person, c.camera) for c in ours.crops] == [(c.person, c.camera) for c in other.crops]
    assert [str(c.path) for c in found.query.crops] == ["0.jpg", "1.jpg", "2.jpg"]
    parts = ["query"] * 3 + ["gallery"] * 3 + ["pool"] * 3
    pooled = load_features(write_table(tmp_path / "y.parquet", table(part=parts)), multi_query=True)
    assert isinstance(pooled, Descriptors)
    assert pooled.pool is not None
    assert len(pooled.pool) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"embedding": None}, "expected a column `vector`, found path, person, camera, part"),
        ({"embedding": [[1.0, 2.0]] * 8 + [[1.0]]}, "all as long"),
        ({"embedding": [[1.0, 2.0]] * 8 + [None]}, "empty cells"),
        ({"embedding": [[1.0, 2.0]] * 8 + [[1.0, None]]}, "empty cells"),
        ({"embedding": ["a"] * 9}, "a list of numbers in each row"),
        ({"embedding": [["a"]] * 9}, "lists of numbers"),
        ({"embedding": [[]] * 9}, "lists of numbers"),
        ({"embedding": [[0.0, 1.0]] * 8 + [[0.0, 0.0]]}, "1 of 6 descriptors"),
        ({"part": ["query"] * 8 + ["test"]}, "one of query, gallery, pool, found test"),
        ({"part": ["query"] * 8 + [None]}, "found None"),
        ({"part": ["gallery"] * 9}, "expected rows of `part` query, found none"),
        ({"part": None, "path": None}, "expected a column `path`"),
        ({"person": [[1]] * 9}, "text or whole numbers"),
    ],
)
def test_parquet_that_cannot_be_scored_is_refused(tmp_path, changes, told):
    assert told in refused(write_table(tmp_path / "x.parquet", table(**changes)))


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.list_(pyarrow.float64()),
        pyarrow.large_list(pyarrow.float32()),
        pyarrow.list_(pyarrow.float16(), 8),
        pyarrow.list_(pyarrow.float32(), 8),
    ],
    ids=str,
)
def test_lists_of_any_kind_of_number_are_vectors(tmp_path, kind):
    rows = [np.asarray(row, np.float16 if "half" in str(kind) else np.float32) for row in table()["embedding"]]
    content = pyarrow.array([list(row) for row in rows], kind)
    found = load_features(write_table(tmp_path / "x.parquet", table(embedding=content)))
    assert isinstance(found, Descriptors)
    expected = np.array(rows[:3], np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.query.vectors, expected, atol=1e-6)


@pytest.mark.parametrize("extra", ["h5py", "pyarrow"])
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, extra):
    path = write(tmp_path / "x.h5", arrays()) if extra == "h5py" else write_table(tmp_path / "x.parquet", table())
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtraError, match=r"partalign\[data\]"):
        load_features(path)


def nested_cells(depth):
    """A version 5 file with cells within cells, on which SciPy's reader overruns the stack."""
    head = struct.pack("<12I", 6, 8, 1, 0, 5, 8, 1, 1, 1, 0, 14, 0)[:-8]
    inner, heads = b"", []
    length = 0
    for _ in range(depth):
        length += len(head) + 8
        heads.append(struct.pack("<II", 14, length - 8) + head)
    named = struct.pack("<10I", 6, 8, 1, 0, 5, 8, 1, 1, 1, 11) + b"query_label".ljust(16, b"\0")
    top = struct.pack("<II", 14, len(named) + length) + named
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + top + b"".join(reversed(heads)) + inner


def npz_with_header(header):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        text = header.encode().ljust(118 - 1) + b"\n"
        archive.writestr("vectors.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    return buffer.getvalue()


def version_5(tag, content=b""):
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + tag + content


def rows_of_nothing():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"query_f": np.empty((2**31 - 1, 0)), "query_label": [[1]]})
    return buffer.getvalue()


HOSTILE = {
    "rows of nothing": rows_of_nothing(),
    "empty": b"",
    "text": b"vectors, persons",
    "version 4": struct.pack("<5I", 0, 3, 3, 0, 8) + b"query_f\0" + bytes(72),
    "header only": version_5(b"\x0e\0\0"),
    "huge variable": version_5(struct.pack("<II", 14, 2**32 - 8)),
    "huge unpacked": version_5(struct.pack("<II", 15, 20), zlib.compress(struct.pack("<II", 14, 2**32 - 8))),
    "cells in cells": nested_cells(200_000),
    "huge npz": npz_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 512), }"),
    "empty items": npz_with_header("{'descr': '|S0', 'fortran_order': False, 'shape': (10000000000,), }"),
    "negative": npz_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 512), }"),
    "objects": npz_with_header("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"),
    "parentheses": npz_with_header("(" * 100),
    "cut parquet": b"PAR1" + bytes(40) + b"PAR1",
    "cut hdf5": b"\x89HDF\r\n\x1a\n" + bytes(600),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_and_take_no_memory(tmp_path, content):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content) + 2**20
    finally:
        tracemalloc.stop()


def test_pickles_are_refused_unopened(tmp_path):
    np.savez(tmp_path / "x.npz", **arrays(query_label=np.array([{1: 2}] * 3, object)))
    assert "pickled objects, which are never loaded" in refused(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", vectors=np.array([[1.0]], object))
    assert "pickled objects" in refused(tmp_path / "y.npz")


def test_hdf5_that_claims_a_terabyte_or_points_elsewhere_is_refused(tmp_path):
    write(tmp_path / "other.h5", arrays())
    for number, make in enumerate(
        [
            lambda file: file.create_dataset("query_f", (10**9, 512), "f4", chunks=(512, 512)),
            lambda file: file.create_dataset("query_f", (3, 8), "f4", chunks=(10**6, 500), maxshape=(None, None)),
            lambda file: file.create_dataset("query_f", (3, 8), "f4", external=[("/etc/passwd", 0, 96)]),
            lambda file: file.__setitem__("query_f", h5py.ExternalLink("other.h5", "/query_f")),
            lambda file: file.create_group("query_f"),
        ]
    ):
        path = write(tmp_path / f"{number}.h5", arrays(query_f=None))
        with h5py.File(path, "r+") as file:
            make(file)
        assert any(word in refused(path) for word in ("too large", "lies in another", "a link", "expected numbers"))


@pytest.mark.parametrize("name", ["result.npz", "result.mat", "packed.mat", "own.npz", "own.parquet", "cells.mat"])
def test_damaged_files_are_read_or_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("own"):
        bag().save(path)
    else:
        cells = {"query_label": np.array(["1", "2", "3"], object)} if name == "cells.mat" else {}
        write(path, arrays(**cells))
    good, draw = path.read_bytes(), random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(250):
        bad = bytearray(good)
        for _ in range(draw.choice([1, 1, 3])):
            place = draw.randrange(len(bad))
            bad[place] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
        path.write_bytes(bad[: draw.choice([len(bad), len(bad), draw.randrange(1, len(bad))])])
        try:
            outcomes[isinstance(load_features(path), Embeddings | Descriptors)] += 1
        except PartAlignError as error:
            assert "\n" not in str(error)  # noqa: PT017
            outcomes[False] += 1
    assert outcomes[False] > 50  # most is noticed; a changed number cannot be


def test_a_missing_file_is_one_line(tmp_path):
    assert refused(tmp_path / "none.mat").endswith("none.mat: cannot be read as descriptors: No such file or directory")
    assert "found another folder" in refused(tmp_path)
