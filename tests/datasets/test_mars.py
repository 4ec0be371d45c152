import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from partalign.crops import Crop
from partalign.datasets import mars
from partalign.errors import DatasetError

TRAIN = [("0001", 1, 2), ("0001", 2, 3), ("0003", 6, 2)]
TEST = [("00-1", 1, 2), ("0000", 4, 2), ("0002", 1, 2), ("0002", 2, 3), ("0004", 1, 2), ("0004", 2, 2)]
QUERY = [3, 4, 6]


def frames(tracklets: list[tuple[str, int, int]]) -> tuple[list[str], np.ndarray]:
    """Names and rows of tracklets (person, camera, length), numbered as in the release."""
    names, rows, number = [], [], defaultdict(int)
    for person, camera, length in tracklets:
        number[person] += 1
        rows.append([len(names) + 1, len(names) + length, -1 if person == "00-1" else int(person), camera])
        names += [f"{person}C{camera}T{number[person]:04}F{frame:03}.jpg" for frame in range(1, length + 1)]
    return names, np.array(rows, dtype=float)


def write_names(root: Path, part: str, names: list[str]) -> None:
    (root / f"info/{part}_name.txt").write_text("".join(f"{name}\n" for name in names))


def write_tracks(root: Path, part: str, rows: object) -> None:
    savemat(root / f"info/tracks_{part}_info.mat", {f"track_{part}_info": rows})


def write_query(root: Path, numbers: object) -> None:
    savemat(root / "info/query_IDX.mat", {"query_IDX": numbers})


@pytest.fixture
def root(tmp_path) -> Path:
    """A small data set in MARS's layout; the files are empty, as the reader never opens one."""
    root = tmp_path / "MARS"
    (root / "info").mkdir(parents=True)
    for part, tracklets in (("train", TRAIN), ("test", TEST)):
        names, rows = frames(tracklets)
        write_names(root, part, names)
        write_tracks(root, part, rows)
        for name in names:
            (root / f"bbox_{part}" / name[:4]).mkdir(parents=True, exist_ok=True)
            (root / f"bbox_{part}" / name[:4] / name).touch()
    write_query(root, np.array([QUERY], dtype=float))
    (root / "bbox_test/0002/Thumbs.db").touch()
    return root


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        mars.load(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_split(root):
    split = mars.load(root)
    assert split == mars.load(root.parent)
    assert (split.name, split.protocol, split.pool) == ("mars", "mars", ())
    assert [len(part) for part in (split.train, split.query, split.gallery)] == [7, 7, 13]
    path = root / "bbox_train/0001/0001C2T0002F003.jpg"
    assert split.train[4] == Crop(path, "0001", "c2", "train-00002", 3.0)
    path = root / "bbox_test/00-1/00-1C1T0001F002.jpg"
    assert split.gallery[1] == Crop(path, "-1", "c1", "test-00001", 2.0)
    assert split.gallery[2].person == "0000"
    assert all(crop.path.is_file() for crop in split.train + split.gallery)


def test_queries_are_tracklets_of_the_gallery(root):
    split = mars.load(root)
    assert {crop.tracklet for crop in split.query} == {"test-00003", "test-00004", "test-00006"}
    gallery = {id(crop) for crop in split.gallery}
    assert all(id(crop) in gallery for crop in split.query)
    assert len({crop.tracklet for crop in split.train + split.gallery}) == len(TRAIN) + len(TEST)


def test_other_counts_are_noted(root):
    (root / "bbox_test/0002/0002C1T0009F001.jpg").touch()
    write_names(root, "train", [*frames(TRAIN)[0], "0003C6T0002F001.jpg"])
    (root / "bbox_train/0003/0003C6T0002F001.jpg").touch()
    assert mars.load(root).notes == (
        "train: 3 tracklets of 7 frames; the official release has 8,298 tracklets of 509,914 frames",
        "train_name.txt: 1 of 8 frames are in no tracklet, left out",
        "test: 6 tracklets of 13 frames; the official release has 12,180 tracklets of 681,089 frames",
        "bbox_test: 1 files that test_name.txt does not name left out",
        "query_IDX.mat: 3 query tracklets; the official release has 1,980",
    )


def test_persons_in_both_halves_are_noted(root):
    shutil.copytree(root / "bbox_train/0001", root / "bbox_test/0001")
    names, rows = frames([*TEST, *TRAIN[:2]])
    write_names(root, "test", names)
    write_tracks(root, "test", rows)
    assert "persons in bbox_train who are in bbox_test as well: 1; scores will be too good" in mars.load(root).notes


def test_missing_frames(root):
    (root / "bbox_test/0004/0004C1T0001F002.jpg").unlink()
    shutil.rmtree(root / "bbox_test/00-1")
    refused(root, "bbox_test: expected the 13 frames", "3 are missing", "00-1C1T0001F001.jpg", "unpack")


def test_half_unpacked(root):
    shutil.rmtree(root / "bbox_test")
    refused(root.parent, "bbox_test missing", "unpack")
    refused(root.parent / "nowhere", "no such folder")
    refused(root / "bbox_train", "found none of them")


def test_a_name_list_that_ends_early(root):
    write_names(root, "test", frames(TEST)[0][:-1])
    refused(root, "test_name.txt: expected 13 names", "tracks_test_info.mat", "found 12")


def test_names_of_other_persons_or_cameras_than_in_the_table(root):
    _, rows = frames(TEST)
    rows[2, 2], rows[3, 3] = 4, 5
    write_tracks(root, "test", rows)
    refused(root, "test_name.txt", "5 of 13 of others: 0002C1T0001F001.jpg", "tracks_test_info.mat")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["0001C1T0001F001.png"], "1 of 1 named otherwise: 0001C1T0001F001.png"),
        (["-1C1T0001F001.jpg", "0001C1T0001F001.jpg"], "1 of 2 named otherwise"),
        (["../01C1T0001F001.jpg"], "1 of 1 named otherwise"),
        (["0001C1T0001F001.jpg"] * 3, "2 of 3 repeated"),
        (["Jürgen"], "cannot read it"),
    ],
)
def test_lists_that_are_refused(root, names, found):
    write_names(root, "train", names)
    refused(root, "train_name.txt", found)


GOOD = frames(TRAIN)[1]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (GOOD[:, :3], "expected track_train_info, N x 4 numbers, found float64 of shape (3, 3)"),
        (np.empty((0, 4)), "of shape (0, 4)"),
        (np.array(["abcd"] * 4), "expected track_train_info, N x 4 numbers, found"),
        (GOOD + 1j, "damaged or of another content"),
        (GOOD + 0.5, "12 of 12 others"),
        (GOOD * np.inf, "12 of 12 others"),
        (GOOD - [[1, 0, 0, 0]], "1 of 3 out of range, the first is row 1, [0, 2, 1, 1]"),
        (GOOD[:, [1, 0, 2, 3]], "3 of 3 out of range"),
        (GOOD - [[0, 0, 3, 0]], "out of range, the first is row 1, [1, 2, -2, 1]"),
        (GOOD * [[1, 1, 1, 0]], "3 of 3 out of range"),
        (GOOD + np.array([[0, 1, 0, 0]]), "2 of 3 tracklets that overlap, the first are rows 1 and 2"),
        (GOOD[[2, 0, 1, 0]], "1 of 4 tracklets that overlap, the first are rows 2 and 4"),
    ],
)
def test_tables_that_are_refused(root, rows, found):
    write_tracks(root, "train", rows)
    refused(root, "tracks_train_info.mat", found)


def test_table_files_that_are_refused(root):
    path = root / "info/tracks_test_info.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(root, "tracks_test_info.mat", "damaged")
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(64))
    refused(root, "tracks_test_info.mat", "damaged")
    path.write_bytes(b"version 3 or so")
    refused(root, "tracks_test_info.mat", "expected a MATLAB file of version 5", "found another kind of file", "again")
    savemat(path, {"something": frames(TEST)[1]})
    refused(root, "tracks_test_info.mat", "no track_test_info")
    path.unlink()
    refused(root, "tracks_test_info.mat", "expected a MATLAB file", "No such file", "check the path")


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ([[0, 7, 3]], "from 1 to 6, found 2 outside and 0 repeated of 3"),
        ([[3, 4, 3]], "found 0 outside and 1 repeated of 3"),
        ([[3, 4], [5, 6]], "expected query_IDX, 1 x Q numbers, found"),
        ([[3.5]], "expected whole numbers, found 1 of 1 others"),
    ],
)
def test_queries_that_are_refused(root, numbers, found):
    write_query(root, numbers)
    refused(root, "query_IDX.mat", found)


def test_a_column_of_queries_is_read_as_a_row(root):
    write_query(root, np.array(QUERY)[:, None])
    assert mars.read_query(root / "info/query_IDX.mat", 6).tolist() == [2, 3, 5]


TRACKLETS = st.lists(
    st.tuples(st.integers(-1, 9999), st.integers(1, 9), st.integers(1, 5)).map(
        lambda t: ("00-1" if t[0] == -1 else f"{t[0]:04}", *t[1:])
    ),
    min_size=1,
    max_size=12,
)


@given(TRACKLETS, st.randoms(use_true_random=False))
def test_tables_and_lists_are_read_as_they_are_written(tmp_path_factory, tracklets, random):
    root = tmp_path_factory.mktemp("mars")
    (root / "info").mkdir()
    names, rows = frames(tracklets)
    order = random.sample(range(len(rows)), len(rows))
    write_names(root, "test", names)
    write_tracks(root, "test", rows[order])
    table = mars.read_tracks(root / "info/tracks_test_info.mat", "track_test_info")
    found = mars._tracklets(root, mars.TEST, mars._read_names(root / "info/test_name.txt"), table)
    assert [crop.path.name for frames in [found[order.index(i)] for i in range(len(rows))] for crop in frames] == names
    for row, crops in zip(order, found, strict=True):
        person, camera, length = tracklets[row]
        assert {(crop.person, crop.camera) for crop in crops} == {(person.replace("00-1", "-1"), f"c{camera}")}
        assert [crop.time for crop in crops] == list(range(1, length + 1))


@given(st.booleans(), st.data())
def test_no_damage_to_a_table_raises_anything_but_dataset_error(tmp_path_factory, packed, data):
    path = tmp_path_factory.mktemp("mars") / "tracks.mat"
    savemat(path, {"track_train_info": GOOD}, do_compression=packed)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    told = str(path)
    try:
        assert mars.read_tracks(path, "track_train_info").shape[1] == 4
    except DatasetError as error:
        told = str(error)
    assert str(path) in told
    assert "\n" not in told


@pytest.mark.shared
def test_official_tables(shared):
    info = shared / "data/protocols/mars/info"
    train, test = (mars.read_tracks(info / part.table, part.variable) for part in (mars.TRAIN, mars.TEST))
    for part, table in ((mars.TRAIN, train), (mars.TEST, test)):
        assert (len(table), table[:, 1].max()) == part.official
        assert (table[1:, 0] == table[:-1, 1] + 1).all()  # every line of the list is in one tracklet
    assert [len(np.unique(table[:, 2])) for table in (train, test)] == [625, 636]
    assert [((test[:, 2] == person).sum()) for person in (-1, 0)] == [870, 3248]
    assert not set(train[:, 2]) & set(test[:, 2])
    query = mars.read_query(info / mars.QUERY, len(test))
    assert len(query) == mars.OFFICIAL_QUERIES
    assert test[query, 2].min() > 0


@pytest.mark.shared
def test_official_queries_need_each_other_in_the_gallery(shared):
    info = shared / "data/protocols/mars/info"
    test = mars.read_tracks(info / mars.TEST.table, mars.TEST.variable)
    query = mars.read_query(info / mars.QUERY, len(test))

    def without_match(gallery: np.ndarray) -> int:
        cameras = defaultdict(set)
        for _, _, person, camera in gallery.tolist():
            cameras[person].add(camera)
        return sum(not cameras[person] - {camera} for _, _, person, camera in test[query].tolist())

    assert without_match(test) == 0
    assert without_match(np.delete(test, query, axis=0)) == 140
