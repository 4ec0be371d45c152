import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from cuhk03_files import EMPTY, PERSONS, TEST_SETS, MatFile, picture, write_mat
from partalign.crops import Crop
from partalign.datasets import cuhk03, cuhk03_crops
from partalign.errors import DatasetError, MissingExtraError, SaveError


def all_names(boxes: str) -> list[str]:
    return [
        f"{pair}_{person:03}_{1 if slot <= 5 else 2}_{slot:02}.png"
        for pair, count in enumerate(PERSONS, start=1)
        for person in range(1, count + 1)
        for slot in range(1, 11)
        if (boxes, pair, person, slot) not in EMPTY
    ]


def table_of(names: list[str]) -> dict[str, np.ndarray]:
    """A table of the new protocol: persons of pair 2 are tested, the first crop of either view is the query."""
    persons = {person: label for label, person in enumerate(sorted({name[:5] for name in names}), start=1)}
    test = [row for row, name in enumerate(names, start=1) if name[0] == "2"]
    query = [row for row in test if names[row - 1][8:10] in ("01", "06")]
    column = lambda values: np.array(values, dtype=float)[:, None]  # noqa: E731
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    return {
        "camId": column([int(name[6]) for name in names]),
        "filelist": cells,
        "labels": column([persons[name[:5]] for name in names]),
        "query_idx": column(query),
        "gallery_idx": column([row for row in test if row not in query]),
        "train_idx": column([row for row, name in enumerate(names, start=1) if name[0] != "2"]),
    }


def write_table(folder: Path, boxes: str, **changes) -> Path:
    path = folder / f"cuhk03_new_protocol_config_{boxes}.mat"
    scipy.io.savemat(path, table_of(all_names(boxes)) | changes, do_compression=True)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """A small data set as it is published; the table of one kind of box in either place where it may lie."""
    write_mat(tmp_path)
    write_table(tmp_path, "detected")
    write_table(tmp_path / "cuhk03_release", "labeled")
    return tmp_path


def persons(crops) -> set[str]:
    return {crop.person for crop in crops}


def refused(folder: Path, *words: str, error=DatasetError, **options) -> str:
    with pytest.raises(error) as caught:
        cuhk03.load(folder, **options)
    told = str(caught.value)
    for word in words:
        assert word in told
    assert "\n" not in told
    return told


@pytest.mark.parametrize("boxes", cuhk03.BOXES)
def test_crops_are_cut_pixel_for_pixel(root, boxes):
    cuhk03.load(root, boxes=boxes)
    folder = root / "cuhk03_release" / "crops" / boxes
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(all_names(boxes))
    for path in folder.glob("*.png"):
        pair, person, _, slot = map(int, path.stem.split("_"))
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), picture(boxes, pair, person, slot))
    assert not (folder.parent / ({"detected", "labeled"} - {boxes}).pop()).exists()


def test_new_protocol(root):
    split = cuhk03.load(root)
    assert split == cuhk03.load(root, protocol="new", boxes="detected", test_set=None)
    assert (split.name, split.protocol, split.test_sets) == ("cuhk03", "market1501", ())
    folder = root / "cuhk03_release" / "crops" / "detected"
    assert split.query[0] == Crop(folder / "2_001_1_01.png", "2_001", "2_1")
    assert split.query[0].key == "detected/2_001_1_01.png"
    assert [crop.path.name for crop in split.query] == [f"2_00{p}_{v}.png" for p in (1, 2, 3) for v in ("1_01", "2_06")]
    assert persons(split.gallery) == {"2_001", "2_002", "2_003"}
    assert persons(split.train) == {"1_001", "1_002", "1_003", "1_004", "3_001", "3_002", "4_001", "5_001"}
    assert len(split.query) + len(split.gallery) + len(split.train) == len(all_names("detected"))
    assert "gallery: 24 crops of 3 persons; the official protocol has 5,332 crops of 700 persons" in split.notes
    labeled = cuhk03.load(root / "cuhk03_release", boxes="labeled")
    assert len(labeled.gallery) == 23


def test_classic_protocol(root):
    split = cuhk03.load(root, protocol="classic", test_set=1)
    assert split.protocol == "single-shot"
    assert split.test_sets == (frozenset({"1_002", "3_002"}),)
    assert [crop.path.name for crop in split.query if crop.person == "1_002"] == [
        f"1_002_1_{slot:02}.png" for slot in (1, 2, 4, 5)
    ]
    assert {crop.camera for crop in split.query} == {"1_1", "3_1"}
    assert {(crop.person, crop.camera) for crop in split.gallery} == {("1_002", "1_2")}
    assert persons(split.train) == {name[:5] for name in all_names("detected")} - {"1_002", "3_002"}
    assert {crop.camera for crop in split.train} == {f"{pair}_{view}" for pair in range(1, 6) for view in (1, 2)}
    assert [crop.path.name for crop in split.train] == sorted(crop.path.name for crop in split.train)
    assert "104 crops of 11 persons; the official release has 14,097 crops of 1,467 persons" in split.notes[0]
    assert "test sets: 3 of 2 persons; the official release has 20 of 100" in split.notes[1]
    assert "1 of 2 test persons lack crops of a view and cannot be scored: 3_002" in split.notes[2]


def test_all_test_sets_in_turn(root):
    split = cuhk03.load(root, protocol="classic", boxes="labeled", test_set=None)
    assert split == cuhk03.load(root, protocol="classic", boxes="labeled", test_set="all")
    assert split.train == ()
    assert split.test_sets == tuple(frozenset(f"{p}_{i:03}" for p, i in rows) for rows in TEST_SETS)
    assert persons(split.query) == persons(split.gallery) == frozenset.union(*split.test_sets)
    refused(root, "test set from 0 to 2, or all", "found 3", protocol="classic", test_set=3)


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_second_run_does_no_work(root, monkeypatch):
    split = cuhk03.load(root)
    folder = root / "cuhk03_release" / "crops" / "detected"
    before = stamps(folder)
    # Neither the file nor h5py is needed any more, and both protocols share the crops.
    classic = cuhk03.load(root, protocol="classic")
    assert {crop.path.parent for crop in (*classic.train, *classic.query)} == {folder}
    (root / "cuhk03_release" / "cuhk-03.mat").unlink()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert cuhk03.load(root) == split
    assert stamps(folder) == before


def test_what_is_lost_is_cut_again(root):
    split = cuhk03.load(root)
    folder = root / "cuhk03_release" / "crops" / "detected"
    (folder / "2_001_1_01.png").unlink()
    before = stamps(folder)
    assert cuhk03.load(root) == split
    after = stamps(folder)
    assert set(after) - set(before) == {"2_001_1_01.png"}
    assert [name for name, stamp in before.items() if after[name] != stamp] == [cuhk03_crops.MARKER]


def test_a_killed_run_is_continued(root):
    with MatFile(root / "cuhk03_release" / "cuhk-03.mat") as mat:
        mat.boxes("detected", (60, 3, 2, 1, 1))
    folder = root / "cuhk03_release" / "crops" / "detected"
    script = f"from partalign.datasets import cuhk03; cuhk03.load(__import__('pathlib').Path({str(root)!r}))"
    run = subprocess.Popen([sys.executable, "-c", script])
    while len(list(folder.glob("*.png"))) < 50:
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    before = {name: stamp for name, stamp in stamps(folder).items() if name.endswith(".png")}
    assert not (folder / cuhk03_crops.MARKER).exists()
    cuhk03.load(root)
    after = stamps(folder)
    assert before.items() < after.items()
    for path in folder.glob("*.png"):
        pair, person, _, slot = map(int, path.stem.split("_"))
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), picture("detected", pair, person, slot))
    assert len(list(folder.glob("*.png"))) == 670 - sum(boxes == "detected" for boxes, *_ in EMPTY)


def test_crops_of_another_file_are_refused(root):
    cuhk03.load(root)
    mat = root / "cuhk03_release" / "cuhk-03.mat"
    mat.write_bytes(mat.read_bytes() + b"more")
    refused(root, "crops/detected", "found those of another file", "remove that folder")


def test_strange_files_among_the_crops(root):
    cuhk03.load(root)
    folder = root / "cuhk03_release" / "crops" / "detected"
    (folder / "holiday.png").touch()
    refused(root, "files that are not of", "holiday.png", "move them away")


def test_a_place_that_cannot_be_written(root, tmp_path_factory):
    (root / "cuhk03_release" / "crops").write_text("in the way")
    refused(root, "cannot be written", "a folder of your own with a link to cuhk-03.mat", error=SaveError)
    own = tmp_path_factory.mktemp("own")
    for file in (root / "cuhk03_release" / "cuhk-03.mat", root / "cuhk03_new_protocol_config_detected.mat"):
        (own / file.name).symlink_to(file)
    assert {crop.path.parent for crop in cuhk03.load(own).query} == {own / "crops" / "detected"}


def test_without_h5py(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(root, 'pip install "partalign[data]"', error=MissingExtraError)


def test_options_are_checked(root):
    refused(root, "protocol new or classic", "'old'", protocol="old")
    refused(root, "boxes detected or labeled", "'manual'", boxes="manual")
    refused(root, "no test set with protocol new", "found 4", test_set=4)


def test_what_is_missing_is_named(root, tmp_path_factory):
    refused(root / "nowhere", "no such folder")
    (root / "cuhk03_new_protocol_config_detected.mat").unlink()
    refused(root, "cuhk03_new_protocol_config_detected.mat", "missing", "choose protocol classic")
    assert cuhk03.load(root, protocol="classic").query
    (root / "cuhk03_release" / "cuhk-03.mat").unlink()
    refused(root, "cuhk03_release/cuhk-03.mat", "it is missing", "found cuhk03_release", boxes="labeled")
    empty = tmp_path_factory.mktemp("empty")
    refused(empty, "an empty folder", "give the folder that holds cuhk03_release")
    (empty / "cuhk03_release.zip").touch()
    refused(empty, "unpack the zip file")


def rewritten(root: Path, write) -> None:
    with MatFile(root / "cuhk03_release" / "cuhk-03.mat") as mat:
        write(mat)


def test_half_a_mat_file(root):
    rewritten(root, lambda mat: mat.boxes("labeled"))
    refused(root, "detected", "missing", "download it again")
    refused(root, "test sets", "missing", protocol="classic", boxes="labeled")
    rewritten(root, lambda mat: mat.boxes("detected", PERSONS[:4]))
    refused(root, "5 camera pairs", "found 4")
    rewritten(root, lambda mat: mat.boxes("detected", (4, 3, 0, 1, 1)))
    refused(root, "camera pair 3", "found nothing")
    rewritten(root, lambda mat: mat.cell([h5py.Reference()] * 5, (5, 1), "detected"))
    refused(root, "camera pair 1", "found nothing")
    rewritten(root, lambda mat: mat.boxes("detected", (4, 2, 2, 1, 1)))
    refused(root, "cuhk03_new_protocol_config_detected.mat", "10 are missing: 2_003_1_01.png")


def test_damaged_test_sets(root):
    for rows in ([(6, 1)], [(0, 1)], [(1, 0)], [(1, 1.5)], [(1, np.nan)], [(1, 1e9)], [(1, 1, 1)]):
        rewritten(root, lambda mat, rows=rows: mat.test_sets([[(1, 1)], rows]))
        refused(root, "test set 1", "rows [pair, person]", protocol="classic")


def test_other_kinds_of_files(root):
    mat, table = root / "cuhk03_release" / "cuhk-03.mat", root / "cuhk03_new_protocol_config_detected.mat"
    raw, packed = mat.read_bytes(), table.read_bytes()
    for content, found in (
        (packed, "found a MATLAB file of version 5"),
        (b"\n<!DOCTYPE html><html>", "found a web page"),
        (b"", "found an empty file"),
        (b"PK\3\4", "found a zip file"),
        (b"\0" * 600, "found another kind of file"),
        (raw[: len(raw) // 2], "damaged"),
        (raw[:530], "damaged"),
    ):
        mat.write_bytes(content)
        refused(root, "cuhk-03.mat", found, "download it again")
    mat.write_bytes(raw)
    for content, found in (
        (raw, "no filelist, labels"),
        (b"\0" * 600, "found another kind"),
        (packed[:400], "damaged"),
    ):
        table.write_bytes(content)
        refused(root, table.name, found, "download it again")


HOSTILE = {
    "huge": lambda mat: mat.values.create_dataset("x", (3, 1 << 20, 1 << 20), "u1", chunks=(1, 64, 64)),
    "tall": lambda mat: mat.values.create_dataset("x", (3, 60, 1025), "u1"),
    "floats": lambda mat: mat.values.create_dataset("x", (3, 60, 160), "f8"),
    "grey": lambda mat: mat.values.create_dataset("x", (60, 160), "u1"),
    "four channels": lambda mat: mat.values.create_dataset("x", (4, 60, 160), "u1"),
    "a group": lambda mat: mat.values.create_group("x"),
    "wide chunks": lambda mat: mat.values.create_dataset(
        "x", (3, 60, 160), "u1", chunks=(3, 1 << 14, 1 << 14), maxshape=(3, None, None), compression="gzip"
    ),
    "elsewhere": lambda mat: mat.values.create_dataset("x", (3, 2, 2), "u1", external=[("/etc/passwd", 0, 12)]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pictures_are_not_read(root, kind):
    def write(mat):
        mat.boxes("detected")
        pair = mat.file[mat.file["detected"][0, 1]]
        pair[7, 2] = HOSTILE[kind](mat).ref

    rewritten(root, write)
    told = refused(root, "cuhk-03.mat", "download it again")
    if kind not in ("wide chunks", "elsewhere"):
        assert "detected/2_003_2_08.png" in told
    assert not (root / "cuhk03_release" / "crops" / "detected" / "2_003_2_08.png").exists()


def test_huge_cells_are_not_read(root):
    def write(mat):
        x = mat.values.create_dataset("x", (10, 1 << 30), h5py.ref_dtype, chunks=(10, 64))
        mat.cell([x.ref] * 5, (5, 1), "detected")

    rewritten(root, write)
    refused(root, "camera pair 1", "found 1073741824 x 10")


COLUMN = np.ones((104, 1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_idx": np.array([[0.0]])}, "row numbers from 1 to 104"),
        ({"train_idx": np.array([[105.0]])}, "row numbers from 1 to 104"),
        ({"train_idx": np.array([[1.5]])}, "damaged or of another content"),
        ({"train_idx": np.array([[np.inf]])}, "damaged or of another content"),
        ({"train_idx": np.array([])}, "damaged or of another content"),
        ({"train_idx": np.array([[1.0], [1.0]])}, "each in one of them"),
        ({"query_idx": np.array([[1.0]])}, "each in one of them"),
        ({"labels": COLUMN[:50]}, "found 104, 50 and 104"),
        ({"labels": COLUMN}, "one label for each person"),
        ({"labels": np.arange(1.0, 105.0)[:, None]}, "one label for each person"),
        ({"camId": COLUMN}, "the views of the names"),
        ({"filelist": np.array([["../../x.png"]], dtype=object)}, "names like 1_001_1_01.png, found '../../x.png'"),
        ({"filelist": COLUMN}, "names like 1_001_1_01.png"),
        ({"labels": np.array([["a"]])}, "damaged or of another content"),
        ({"camId": np.zeros((1500, 1500))}, "more than 16,000,000 bytes unpacked"),
        ({"camId": COLUMN + 1j}, "damaged or of another content"),
        ({"camId": {"a": 1}}, "damaged or of another content"),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, changes, words):
    table = write_table(tmp_path, "detected", **changes)
    with pytest.raises(DatasetError, match=r"cuhk03_new_protocol_config_detected\.mat: .*download it again$") as caught:
        cuhk03.read_protocol(table)
    assert words in str(caught.value)


def test_a_table_without_one_of_its_columns(tmp_path):
    content = table_of(all_names("detected"))
    del content["gallery_idx"]
    scipy.io.savemat(tmp_path / "table.mat", content)
    with pytest.raises(DatasetError, match="no gallery_idx"):
        cuhk03.read_protocol(tmp_path / "table.mat")


@pytest.mark.parametrize(
    "pattern", ["{person:04}_c{camera}_{number}.png", "{person:04}_c{camera}s1_{number:06}_00.jpg"]
)
def test_folders_that_others_cut(tmp_path, pattern):
    def name(person: int, camera: int, number: int) -> str:
        return pattern.format(person=person, camera=camera, number=number)

    root = tmp_path / "cuhk03-np" / "labeled"
    parts = {
        "bounding_box_train": [name(1, 1, 1), name(1, 2, 6)],
        "query": [name(3, 1, 22), name(3, 2, 27)],
        "bounding_box_test": [name(3, 1, 21), name(3, 2, 28)],
    }
    for part, names in parts.items():
        (root / part).mkdir(parents=True)
        for file in names:
            (root / part / file).touch()
    split = cuhk03.load(tmp_path, boxes="labeled")
    assert split == cuhk03.load(tmp_path / "cuhk03-np", boxes="labeled")
    assert (split.name, split.protocol) == ("cuhk03", "market1501")
    assert split.query[0] == Crop(root / "query" / name(3, 1, 22), "0003", "c1")
    assert "bounding_box_train: 2 crops of 1 persons; the official release has 7,368 crops of 767" in split.notes[0]
    refused(tmp_path, "cuhk-03.mat", "it is missing")
    refused(tmp_path, "serves protocol new only", protocol="classic", boxes="labeled")
    (root / "query" / "notes.txt").touch()
    refused(tmp_path, "names like 0001_c1_1.png", "notes.txt", boxes="labeled")


@pytest.mark.shared
@pytest.mark.parametrize(("boxes", "counts"), [("labeled", (7368, 1400, 5328)), ("detected", (7365, 1400, 5332))])
def test_official_protocol(shared, boxes, counts):
    parts = cuhk03.read_protocol(shared / f"data/protocols/cuhk03/cuhk03_new_protocol_config_{boxes}.mat")
    assert tuple(map(len, parts.values())) == counts
    of_part = {part: {name[:5] for name in names} for part, names in parts.items()}
    assert [len(found) for found in of_part.values()] == [767, 700, 700]
    assert of_part["query"] == of_part["gallery"]
    assert not of_part["query"] & of_part["train"]
    crops = {part: tuple(Crop(Path(name), name[:5]) for name in names) for part, names in parts.items()}
    described = [cuhk03.describe(found) for found in crops.values()]
    assert described == list(cuhk03.OFFICIAL_NEW[boxes].values())
    assert cuhk03.describe(sum(crops.values(), ())) == cuhk03.OFFICIAL[boxes]
    # Each person's two queries are one of each view; the counts of the first three pairs are those of earlier papers.
    assert set(Counter((name[:5], name[6]) for name in parts["query"]).values()) == {1}
    early = [name for names in parts.values() for name in names if name[0] in "123"]
    assert len({name[:5] for name in early}) == 1360
    assert len(early) == {"labeled": 13_163, "detected": 13_164}[boxes]
