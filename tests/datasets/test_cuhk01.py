import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.datasets import cuhk01
from partalign.errors import DatasetError


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """All 971 x 4 files of the release; empty, as the reader never opens one."""
    root = tmp_path_factory.mktemp("cuhk01") / "campus"
    root.mkdir()
    for person in range(1, 972):
        for number in range(1, 5):
            (root / f"{person:04}{number:03}.png").touch()
    (root / "Thumbs.db").touch()
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    """120 persons, four crops of each."""
    root = tmp_path / "campus"
    root.mkdir()
    for person in range(1, 121):
        for number in range(1, 5):
            (root / f"{person:04}{number:03}.png").touch()
    return root


def persons(crops) -> set[str]:
    return {crop.person for crop in crops}


def refused(folder: Path, *words: str, **options) -> None:
    with pytest.raises(DatasetError) as caught:
        cuhk01.load(folder, **options)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("protocol", "count"), [("486", 486), ("100", 100)])
def test_official_counts(official, protocol, count):
    split = cuhk01.load(official.parent, protocol=protocol)
    assert split == cuhk01.load(official, protocol=protocol)
    assert split.notes == ()
    assert split.protocol == "single-shot"
    assert len(split.query) == len(split.gallery) == 2 * count
    assert len(split.train) == 4 * (971 - count)
    assert split.test_sets == (frozenset(persons(split.query)),)
    assert persons(split.query) == persons(split.gallery)
    assert not persons(split.train) & persons(split.query)
    assert {(crop.camera, crop.path.name[4:]) for crop in split.query} == {("A", "001.png"), ("A", "002.png")}
    assert {(crop.camera, crop.path.name[4:]) for crop in split.gallery} == {("B", "003.png"), ("B", "004.png")}


def test_test_sets_never_change(official):
    """Written down once: whoever compares with an older result must test on the same persons."""
    first, *_, last = (cuhk01.load(official, protocol="486", test_set=None)).test_sets
    assert zlib.crc32("".join(sorted(last)).encode()) == 1612783411
    hundred = cuhk01.load(official, protocol="100").test_sets[0]
    assert sorted(hundred)[:5] == ["0015", "0032", "0056", "0061", "0066"]
    assert zlib.crc32("".join(sorted(hundred)).encode()) == 2080311902
    assert hundred < first


def test_all_sets_in_turn_leave_nobody_to_train_on(official):
    split = cuhk01.load(official, protocol="486", test_set=None)
    assert split == cuhk01.load(official, protocol="486", test_set="all")
    assert split.train == ()
    assert len(split.test_sets) == len(set(split.test_sets)) == 10
    assert split.test_sets[3] == cuhk01.load(official, test_set=3).test_sets[0]
    assert persons(split.query) == frozenset.union(*split.test_sets)


@given(st.integers(1, 300), st.integers(0, 20), st.randoms())
def test_draws_depend_on_the_number_alone(count, number, random):
    names = [f"{person:04}" for person in range(1, 301)]
    drawn = cuhk01.draw_test_set(names, count, number)
    shuffled = random.sample(names, len(names))
    assert cuhk01.draw_test_set(shuffled, count, number) == drawn
    assert len(drawn) == count
    assert drawn <= set(names)
    assert drawn <= cuhk01.draw_test_set(names, 300, number)


def test_missing_crops_are_noted(root):
    (root / "0007002.png").unlink()
    for number in (3, 4):
        (root / f"0009{number:03}.png").unlink()
    split = cuhk01.load(root, protocol="100", test_set=None)
    assert "477 crops of 120 persons; the official release has 3,884 crops of 971 persons" in split.notes[0]
    assert "2 persons have fewer than four crops: 0007, 0009" in split.notes[1]
    assert "1 of 120 test persons lack crops of a view and cannot be scored: 0009" in split.notes[2]


def test_refusals(root, tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    refused(root, "at least 486 persons", "found 120")
    refused(root, "protocol 486 or 100", "'50'", protocol="50")
    refused(root, "test set from 0 to 9", "found 10", protocol="100", test_set=10)
    refused(root, "test set from 0 to 9", "found -1", protocol="100", test_set=-1)
    (root / "0001005.png").touch()
    refused(root.parent, "names like 0001001.png", "found 1 of 481", "0001005.png", protocol="100")


def test_wrong_folders(tmp_path):
    refused(tmp_path, "an empty folder", "campus")
    (tmp_path / "CUHK01.zip").touch()
    refused(tmp_path, "found CUHK01.zip", "unpack the zip file")
    (tmp_path / "campus").mkdir()
    refused(tmp_path, "found an empty folder")


@given(st.integers(0, 9999), st.integers(1, 4))
def test_names_are_read_as_they_are_written(person, number):
    path = Path(f"campus/{person:04}{number:03}.png")
    assert cuhk01.parse_name(path) == Crop(path, f"{person:04}", "AABB"[number - 1])


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20))
def test_no_text_breaks_the_name_parser(text):
    crop = cuhk01.parse_name(Path("campus") / text)
    assert crop is None or text.isascii()
