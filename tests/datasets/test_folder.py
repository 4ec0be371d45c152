import os
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from partalign.crops import Crop
from partalign.datasets import folder
from partalign.errors import DatasetError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def refused(root: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        folder.load(root)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_folder_for_each_person(tmp_path):
    names = ["train/alice/cam1_01.jpg", "train/alice/cam2_01.JPG", "train/bob/c3/0001.png", "train/cam4/bob/1.webp"]
    names += ["query/carol/entry-c1.jpg", "gallery/carol/lobby.cam02.x.jpg", "gallery/dave/c3po.jpg"]
    split = folder.load(make(tmp_path, *names))
    found = [(crop.person, crop.camera) for crop in split.train]
    assert found == [("alice", "cam1"), ("alice", "cam2"), ("bob", "c3"), ("bob", "cam4")]
    assert [(crop.person, crop.camera) for crop in split.query] == [("carol", "c1")]
    assert [(crop.person, crop.camera) for crop in split.gallery] == [("carol", "cam02"), ("dave", None)]
    (note,) = split.notes
    assert note.startswith("1 crops have no camera, by which scoring tells matches apart: choose --same-camera keep")


def test_names_like_market1501(tmp_path):
    names = ["query/0002_c1s1_000451_03.jpg", "gallery/0002_c2_f0046182.png", "gallery/-1_c3s1_000007_00.jpg"]
    names += ["gallery/17_c12.jpg", "bounding_box_test/0002_c1s1_000451_03.jpg"]
    split = folder.load(make(tmp_path, *names))
    assert split.query == (Crop(tmp_path / names[0], "0002", "c1", time=451.0),)
    assert [(c.person, c.camera, c.time) for c in split.gallery] == [
        ("-1", "c3", 7.0),
        ("0002", "c2", 46182.0),
        ("17", "c12", None),
    ]
    assert split.notes == (
        "1 picture outside train, query, gallery left out: bounding_box_test/0002_c1s1_000451_03.jpg",
    )


def test_without_names_all_can_be_searched(tmp_path):
    split = folder.load(make(tmp_path, "b.jpg", "a.png"))
    assert [(crop.path.name, crop.person) for crop in split.gallery] == [("a.png", None), ("b.jpg", None)]
    assert split.query == ()
    assert split.notes[0].endswith("no crop has a person: they can be searched, but not scored")


def test_without_query_and_gallery_every_crop_of_a_person_is_a_query(tmp_path):
    split = folder.load(make(tmp_path / "a", "0001_c1.jpg", "0001_c2.jpg", "-1_c1.jpg", "0000_c2.jpg"))
    assert sorted(c.path.name for c in split.query) == ["0001_c1.jpg", "0001_c2.jpg"]
    assert len(split.gallery) == 4
    assert split.protocol == "market1501"
    assert split.notes == ("no query and gallery folders: each crop is searched for among the others",)
    one_camera = folder.load(make(tmp_path / "b", "anna/1.jpg", "anna/2.jpg", "ben/1.jpg", "3.jpg"))
    assert one_camera.protocol == "single-camera"
    assert len(one_camera.query) == 3
    assert "only a query's own picture is left out" in one_camera.notes[0]
    assert one_camera.notes[1] == "1 of 4 crops have no person, so nothing can be scored"


def test_what_cannot_be_scored_is_said(tmp_path):
    def notes(name: str, *names: str) -> str:
        return " / ".join(folder.load(make(tmp_path / name, *names)).notes)

    assert "query: 1 of 2 crops have no person" in notes("a", "query/1.jpg", "query/x/1.jpg", "gallery/x/2.jpg")
    assert "all crops are of camera c1" in notes("b", "query/x/c1_1.jpg", "gallery/x/c1_2.jpg")
    lonely = notes("c", "query/x/c1_1.jpg", "query/y/c1_1.jpg", "gallery/x/c2_1.jpg", "gallery/y/c1_2.jpg")
    assert lonely == "1 of 2 queries have no match from another camera in the gallery: y/c1_1.jpg"
    assert notes("d", "query/x/c1_1.jpg", "gallery/x/c2_1.jpg") == ""
    single = notes("e", "train/x/1.jpg", "train/y/1.jpg", "train/y/2.jpg", "train/3.jpg")
    assert "train: 1 person with one crop, of use as a non-match only: x" in single
    assert "train: 1 of 4 crops have no person" in single


def test_data_of_one_camera_are_told_how_to_be_scored(tmp_path):
    make(tmp_path, "query/1.jpg", "gallery/2.jpg")
    table = "path,person,camera,tracklet\nquery/1.jpg,x,door,{}\ngallery/2.jpg,x,door,t2\n"
    keep = "--same-camera keep, which leaves out only the query's own picture"
    tracklet = "--same-camera tracklet, which leaves out only crops of the query's tracklet"
    (tmp_path / "crops.csv").write_text(table.format("t1"))
    told = "all crops are of camera door, but matches come from another: "
    assert folder.load(tmp_path).notes == (f"{told}choose {tracklet}, or {keep}",)
    (tmp_path / "crops.csv").write_text(table.format(""))
    advice = f"choose {keep}; or give tracklets in crops.csv or crops.parquet and choose {tracklet}"
    assert folder.load(tmp_path).notes == (told + advice,)


def test_odd_names_are_noted(tmp_path):
    split = folder.load(make(tmp_path, "all/0002_c1s1_000451_03.jpg", "cam1/bob/1.jpg", "cam2/bob/1.jpg"))
    assert [crop.person for crop in split.gallery] == ["all", "bob", "bob"]
    assert "1 crop named after another person than the folder, which counts: all/0002_c1s1_000451_03.jpg" in split.notes
    assert any("1 folder/file name used by more than one crop" in note and "bob/1.jpg" in note for note in split.notes)


def test_other_files_are_left_out_and_counted(tmp_path):
    make(tmp_path, "x/1.jpg", "x/.2.jpg", "x/Thumbs.db", ".git/3.jpg", "__MACOSX/4.jpg", "notes.txt", "x/a.gif")
    split = folder.load(tmp_path)
    assert [crop.key for crop in split.gallery] == ["x/1.jpg"]
    assert split.notes[0] == "2 files left out, not named as pictures: notes.txt, x/a.gif"


def test_links(tmp_path):
    outside = make(tmp_path / "outside", "secret.jpg", "test/query/x/c1_1.jpg")
    root = make(tmp_path / "root", "x/1.jpg", "gallery/x/c2_1.jpg")
    (root / "x/loop").symlink_to(root)
    (root / "x/self").symlink_to(root / "x/self")
    (root / "x/gone.jpg").symlink_to(root / "gone.jpg")
    (root / "gallery/x/copy.jpg").symlink_to("c2_1.jpg")
    (root / "gallery/x/leak.jpg").symlink_to(outside / "secret.jpg")
    (root / "query").symlink_to(outside / "test/query")
    split = folder.load(root)
    assert [crop.key for crop in split.query] == ["x/c1_1.jpg"]
    assert [crop.path.name for crop in split.gallery] == ["c2_1.jpg", "copy.jpg", "leak.jpg"]
    notes = " / ".join(split.notes)
    assert "1 linked folders not followed: x/loop" in notes
    assert "2 broken links or devices left out: x/gone.jpg, x/self" in notes
    assert "1 pictures are links to files outside the folder, and are read: gallery/x/leak.jpg" in notes


def test_nothing_to_read(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "found none")
    refused(make(tmp_path, "readme.md"), "1 files left out, not named as pictures: readme.md")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_without_rights(tmp_path):
    make(tmp_path, "x/1.jpg")
    (tmp_path / "x").chmod(0)
    refused(tmp_path, "cannot list it")


def test_find_crops(tmp_path):
    make(tmp_path, "b.jpg", "set/bob/cam1.jpg", "set/a.jpg")
    crops = folder.find_crops([tmp_path / "b.jpg", str(tmp_path / "set")])
    assert [(crop.path.name, crop.person) for crop in crops] == [("b.jpg", None), ("a.jpg", None), ("cam1.jpg", "bob")]
    with pytest.raises(DatasetError, match=r"gone\.jpg: expected a picture or a folder"):
        folder.find_crops([tmp_path / "gone.jpg"])


@pytest.mark.parametrize("name", ["crops.csv", "crops.parquet"])
def test_a_table_says_who_is_on_the_crops(tmp_path, name):
    make(tmp_path, "query/1.jpg", "gallery/2.jpg", "gallery/not listed.jpg")
    if name == "crops.csv":
        (tmp_path / name).write_text("path,person,camera\nquery/1.jpg,Bob,lobby\ngallery/2.jpg,Bob,yard\n")
    else:
        columns = {"path": ["query/1.jpg", "gallery/2.jpg"], "person": ["Bob"] * 2, "camera": ["lobby", "yard"]}
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
    split = folder.load(tmp_path)
    assert split.query == (Crop(tmp_path / "query/1.jpg", "Bob", "lobby"),)
    assert split.gallery == (Crop(tmp_path / "gallery/2.jpg", "Bob", "yard"),)
    assert split.notes == ()
    assert folder.find_crops([tmp_path]) == split.query + split.gallery


def test_two_tables(tmp_path):
    make(tmp_path, "1.jpg", "crops.csv", "crops.parquet")
    refused(tmp_path, "expected one table of crops, found crops.csv and crops.parquet; remove one")
    with pytest.raises(DatasetError, match="expected one table"):
        folder.find_crops([tmp_path])


WORD = st.text(st.characters(categories=("L", "N"), include_characters="_-. "), min_size=1, max_size=12)
WORD = WORD.filter(lambda word: not word.startswith("."))  # hidden: never read


@given(WORD, WORD)
def test_the_folder_is_the_person_whatever_it_is_called(person, name):
    path = Path("root") / person / f"{name}.jpg"
    crop = folder._name(path, f"{person}/{name}.jpg")
    camera_or_part = person.lower() in folder._NOT_A_PERSON or folder._CAMERA.fullmatch(person.lower())
    if not camera_or_part:
        assert crop.person == person
    assert crop.path == path
