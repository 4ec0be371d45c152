import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.datasets import market1501
from partalign.datasets.layout import describe
from partalign.errors import DatasetError

TRAIN = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000301_01.jpg", "0007_c3s3_077419_03.jpg")
QUERY = ("0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg")
GALLERY = ("-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0001_c2s1_000301_00.jpg")


@pytest.fixture
def root(tmp_path) -> Path:
    """A small data set in Market-1501's layout; the files are empty, as the reader never opens one."""
    root = tmp_path / market1501.FOLDER
    for part, names in (("bounding_box_train", TRAIN), ("query", QUERY), ("bounding_box_test", GALLERY)):
        (root / part).mkdir(parents=True)
        for name in names:
            (root / part / name).touch()
        (root / part / "Thumbs.db").touch()
        (root / part / "._0001_c1s1_001051_00.jpg").touch()
    return root


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        market1501.load(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_split(root):
    split = market1501.load(root.parent)
    assert split == market1501.load(root)
    assert [crop.path.name for crop in split.train] == sorted(TRAIN)
    assert split.query[0] == Crop(root / "query" / QUERY[0], "0001", "c1", time=1051.0)
    assert [crop.person for crop in split.gallery] == ["-1", "0000", "0001"]
    assert split.train[2].camera == "c3"
    assert "bounding_box_train: 3 crops of 2 persons; the official release has 12,936" in split.notes[0]
    assert "3 crops of 1 persons, 1 of them distractors (0000) and 1 junk (-1)" in split.notes[2]
    assert len(split.notes) == 3


def test_a_person_in_training_and_test_is_noted(root):
    (root / "query" / TRAIN[0]).touch()
    assert "persons in bounding_box_train who are in the test folders as well: 1" in market1501.load(root).notes[-1]


def test_multi_query_pool(root):
    assert market1501.load(root).pool == ()
    (root / "gt_bbox").mkdir()
    for name in (*QUERY, "0002_c1s1_000451_00.jpg", "Thumbs.db"):
        (root / "gt_bbox" / name).touch()
    split = market1501.load(root.parent)
    assert split.pool[0] == Crop(root / "gt_bbox" / QUERY[0], "0001", "c1", time=1051.0)
    assert [crop.person for crop in split.pool] == ["0001", "0002", "0003"]  # training persons' are in the release too
    assert len(split.notes) == 3


def test_queries_without_a_pool_are_noted(root):
    (root / "gt_bbox").mkdir()
    (root / "gt_bbox/0001_c2s1_001051_00.jpg").touch()
    told = "gt_bbox: 2 of 2 queries have no crop of their person and camera there, so multi-query scoring has nothing"
    assert market1501.load(root).notes[-1].startswith(told)


def test_a_damaged_pool(root):
    (root / "gt_bbox").mkdir()
    refused(root, "gt_bbox", "empty folder", "unpack")
    (root / "gt_bbox/boxes.mat").touch()
    refused(root, "gt_bbox", "1 of 1 files named otherwise", "boxes.mat")


def test_half_unpacked(root):
    for name in TRAIN:
        (root / "bounding_box_train" / name).unlink()
    refused(root, "bounding_box_train", "empty folder", "unpack")
    (root / "bounding_box_train").rename(root / "elsewhere")
    refused(root.parent, "bounding_box_train", "missing")


def test_wrong_folder(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    refused(tmp_path, "an empty folder")
    for number in range(7):
        (tmp_path / f"holiday{number}").mkdir()
    refused(tmp_path, "holiday0, holiday1", "and 2 more", market1501.FOLDER)
    (tmp_path / "Market-1501-v15.09.15.zip").touch()
    refused(tmp_path, "unpack the zip file")
    refused(tmp_path / "Market-1501-v15.09.15.zip", "no such folder")


@pytest.mark.parametrize(
    "name", ["readme.txt", "0002_c1s1_000451_03.png", "0002_c1_000451_03.jpg", "2_c1s1_000451_03.jpg"]
)
def test_other_names_are_counted_and_named(root, name):
    (root / "query" / name).touch()
    refused(root, "found 1 of 3 files named otherwise", name)


@given(
    st.integers(-1, 9999),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 999_999),
    st.integers(0, 99),
    st.sampled_from([".jpg", ".jpg.jpg"]),
)
def test_names_are_read_as_they_are_written(person, camera, sequence, frame, box, ending):
    text = "-1" if person == -1 else f"{person:04}"
    path = Path(f"query/{text}_c{camera}s{sequence}_{frame:06}_{box:02}{ending}")
    assert market1501.parse_name(path) == Crop(path, text, f"c{camera}", time=float(frame))


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=30))
def test_no_text_breaks_the_name_parser(text):
    crop = market1501.parse_name(Path("folder") / text)
    assert crop is None or text.isascii()


OFFICIAL = [("train", "bounding_box_train"), ("query", "query"), ("test", "bounding_box_test")]


@pytest.mark.shared
@pytest.mark.parametrize(("table", "folder"), OFFICIAL)
def test_official_lists(shared, table, folder):
    with (shared / f"data/protocols/market1501/market1501_{table}.csv").open() as file:
        rows = list(csv.reader(file))
    crops = [market1501.parse_name(Path(path)) for _, path in rows]
    assert [crop and crop.person for crop in crops] == [person for person, _ in rows]
    assert {crop.camera for crop in crops} == {f"c{number}" for number in range(1, 7)}  # type: ignore[union-attr]
    assert describe(tuple(crops)) == market1501.OFFICIAL[folder]  # type: ignore[arg-type]
    persons = Counter(crop.person for crop in crops)  # type: ignore[union-attr]
    assert (persons["0000"], persons["-1"]) == ((2798, 3819) if table == "test" else (0, 0))


@pytest.mark.shared
def test_real_crops(shared):
    split = market1501.load(shared / "data")
    assert [len(part) for part in (split.train, split.query, split.gallery)] == [9914, 445, 1150]
    assert len({crop.person for crop in split.train}) == 551
    assert "9,914 crops of 551 persons" in split.notes[0]
    assert all(crop.path.is_file() for crop in split.query)
