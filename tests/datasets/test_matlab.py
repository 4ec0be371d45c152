import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from partalign.datasets.matlab import read_tables
from partalign.errors import DatasetError

NUMBERS = arrays.arrays(
    st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"]),
    arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4),
)
WORDS = st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), min_size=1), min_size=1, max_size=5)


def cells(values: list) -> np.ndarray:
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.from_regex("[a-z]{1,9}", fullmatch=True), NUMBERS), WORDS, st.booleans())
def test_reads_what_scipy_writes(tmp_path_factory, numbers, words, packed):
    path = tmp_path_factory.getbasetemp() / "written.mat"
    scipy.io.savemat(path, {**numbers, "Words": cells(words)}, do_compression=packed)
    read = read_tables(path, [*numbers, "Words"])
    assert read.pop("Words").ravel().tolist() == words
    assert read.keys() == numbers.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, numbers[name])


def test_other_variables_are_passed_over(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"one": {"a": 1}, "two": cells([cells(["x"])]), "three": np.arange(3)})
    assert read_tables(tmp_path / "a.mat", ["three"])["three"].tolist() == [[0, 1, 2]]
    with pytest.raises(DatasetError, match="class 2"):
        read_tables(tmp_path / "a.mat", ["one"])
    with pytest.raises(DatasetError, match="cells in cells"):
        read_tables(tmp_path / "a.mat", ["two"])
    with pytest.raises(DatasetError, match="no four"):
        read_tables(tmp_path / "a.mat", ["three", "four"])


def test_large_files_are_not_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"zeros": np.zeros((1000, 1000))}, do_compression=True)
    assert not read_tables(tmp_path / "a.mat", ["zeros"])["zeros"].any()
    with pytest.raises(DatasetError, match="more than 7,999,999 bytes unpacked"):
        read_tables(tmp_path / "a.mat", ["zeros"], max_bytes=7_999_999)
    with pytest.raises(DatasetError, match="more than 100 bytes"):
        read_tables(tmp_path / "a.mat", ["zeros"], max_bytes=100)


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
        tables = read_tables(copy, ["words", "numbers"])
    except DatasetError as error:
        told = str(error)
    assert "\n" not in told
    assert tables or "damaged.mat: damaged or of another content" in told
    assert sum(table.nbytes for table in tables.values()) < len(content)


@pytest.mark.shared
@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_real_tables_are_read_as_scipy_reads_them(shared, boxes):
    path = shared / f"data/protocols/cuhk03/cuhk03_new_protocol_config_{boxes}.mat"
    names = ["camId", "filelist", "labels", "train_idx", "query_idx", "gallery_idx"]
    expected = scipy.io.loadmat(path)
    for name, table in read_tables(path, names).items():
        assert table.shape == expected[name].shape
        values = (
            [cell.item() for cell in expected[name].flat] if name == "filelist" else expected[name].ravel().tolist()
        )
        assert table.ravel().tolist() == values
