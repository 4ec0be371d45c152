from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.datasets import dukemtmc
from partalign.errors import DatasetError

NAMES = {
    "bounding_box_train": ("0001_c2_f0046182.jpg", "0001_c5_f0051341.jpg"),
    "query": ("0005_c2_f0046985.jpg",),
    "bounding_box_test": ("0005_c1_f0051095.jpg", "0008_c8_f0000001.jpg", "7100_c3_f0100000.jpg"),
}


@pytest.fixture
def root(tmp_path) -> Path:
    """A small data set in DukeMTMC-reID's layout; the files are empty, as the reader never opens one."""
    root = tmp_path / "DukeMTMC-reID"
    for part, names in NAMES.items():
        (root / part).mkdir(parents=True)
        for name in (*names, "Thumbs.db", ".DS_Store"):
            (root / part / name).touch()
    (root / "LICENSE_DukeMTMC.txt").touch()
    return root


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        dukemtmc.load(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_split(root):
    split = dukemtmc.load(root.parent)
    assert split == dukemtmc.load(root)
    assert (split.name, split.protocol, split.pool) == ("dukemtmc", "market1501", ())
    assert tuple(crop.path.name for crop in split.train) == NAMES["bounding_box_train"]
    assert split.query == (Crop(root / "query/0005_c2_f0046985.jpg", "0005", "c2", time=46985.0),)
    assert [(crop.person, crop.camera) for crop in split.gallery] == [("0005", "c1"), ("0008", "c8"), ("7100", "c3")]
    assert split.notes == (
        "bounding_box_train: 2 crops of 1 persons; the official release has 16,522 crops of 702 persons",
        "query: 1 crops of 1 persons; the official release has 2,228 crops of 702 persons",
        "bounding_box_test: 3 crops of 3 persons; the official release has 17,661 crops of 1,110 persons",
    )


def test_half_unpacked_or_elsewhere(root):
    (root / "query" / NAMES["query"][0]).unlink()
    refused(root, "query", "empty folder", "unpack")
    (root / "query/0005_c2_f0046985_00.jpg").touch()
    refused(root, "names like 0005_c2_f0046985.jpg", "1 of 1 files named otherwise")
    refused(root / "nowhere", "a folder with DukeMTMC-reID, no such folder")
    refused(root / "query", "give the folder that holds DukeMTMC-reID")


@given(st.integers(0, 9999), st.integers(0, 9), st.integers(0, 9_999_999))
def test_names_are_read_as_they_are_written(person, camera, frame):
    path = Path(f"query/{person:04}_c{camera}_f{frame:07}.jpg")
    assert dukemtmc.parse_name(path) == Crop(path, f"{person:04}", f"c{camera}", time=float(frame))


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=30))
def test_no_text_breaks_the_name_parser(text):
    crop = dukemtmc.parse_name(Path("folder") / text)
    assert crop is None or text.isascii()
