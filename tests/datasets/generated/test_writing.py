import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partalign.crops import Split
from partalign.datasets import keypoints, market1501
from partalign.datasets.generated import World
from partalign.errors import DatasetError

TINY = World(persons=20, height=64, width=32, crops_per_person=8, seed=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Split]:
    folder = tmp_path_factory.mktemp("world")
    return folder, TINY.write(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_market_reader_reads_the_same(written):
    folder, split = written
    read = market1501.load(folder)
    assert (read.train, read.query, read.gallery) == (split.train, split.query, split.gallery)
    assert [len(part) for part in (split.train, split.query, split.gallery)] == [12 * 8, 8 * 6, 8 * 2]
    assert not {path.name for path in folder.rglob(".*")}


def test_training_and_test_persons_differ_and_groups_stay_together(written):
    _, split = written
    train = {crop.person for crop in split.train}
    assert train == {f"{n:04d}" for n in range(1, 13)}
    assert (
        {crop.person for crop in split.query}
        == {crop.person for crop in split.gallery}
        == {f"{n:04d}" for n in range(13, 21)}
    )


def test_one_query_for_each_person_and_camera_with_a_match_from_another(written):
    _, split = written
    queries = [(crop.person, crop.camera) for crop in split.query]
    assert len(set(queries)) == len(queries) == 8 * 6
    for person, camera in queries:
        assert any(crop.person == person and crop.camera != camera for crop in split.gallery)


def test_files_hold_the_pictures(written):
    _, split = written
    for crop in (*split.train[::17], *split.query[::11], *split.gallery[::5]):
        assert crop.time is not None
        number = int(crop.time)
        assert (TINY.person(number), TINY.camera(number)) == (crop.person, crop.camera)
        with Image.open(crop.path) as image:
            assert image.size == (32, 64)
            found = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(found - TINY.render([number])[0][0]).mean() < 7  # JPEG


def test_key_points_are_those_of_the_pictures(written):
    folder, split = written
    table = keypoints.read_csv(folder / "keypoints.csv")
    crops = (*split.train, *split.query, *split.gallery)
    assert set(table) == {crop.path.name for crop in crops}
    joints = TINY.joints([int(crop.time or 0) for crop in crops])
    found = np.stack([table[crop.path.name] for crop in crops])
    assert np.array_equal(found[..., 2], joints[..., 2])
    visible = joints[..., 2] > 0
    expected = (joints[..., :2] + 0.5) * 2 - 0.5  # 64 x 32 -> 128 x 64
    assert np.abs(found[..., :2] - expected)[visible].max() < 0.51
    assert np.median(np.abs(found[..., :2] - expected)[visible]) < 0.01
    examples = keypoints.load_examples(folder / "keypoints.csv", folder)
    assert len(examples) == len(split.train)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, written):
    folder, split = written
    TINY.write(tmp_path)
    expected = contents(folder)
    assert contents(tmp_path) == expected
    lost = [tmp_path / crop.path.relative_to(folder) for crop in (split.train[3], split.query[0], split.gallery[9])]
    for path in lost[:2]:
        path.unlink()
    lost[2].write_bytes(b"")  # as a power cut may leave it
    (tmp_path / "keypoints.csv").unlink()
    kept = tmp_path / split.train[0].path.relative_to(folder)
    kept.write_bytes(b"untouched")
    assert len(TINY.write(tmp_path).train) == len(split.train)
    assert kept.read_bytes() == b"untouched"
    kept.write_bytes(expected[str(kept.relative_to(tmp_path))])
    assert contents(tmp_path) == expected


def test_a_second_run_writes_nothing(written):
    folder, split = written
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert TINY.write(folder) == split
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"occlusion": 0.5}, {"persons": 24}])
def test_other_settings_are_refused_in_one_line(written, change):
    folder, _ = written
    before = contents(folder)
    name, value = next(iter(change.items()))
    with pytest.raises(DatasetError, match=rf"{name} \S+ instead of {value}") as caught:
        replace(TINY, **change).write(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert contents(folder) == before
    with pytest.raises(DatasetError, match="train_fraction"):
        TINY.write(folder, train_fraction=0.7)


@pytest.mark.parametrize("content", [None, b"not JSON", b"[1]"])
def test_a_folder_with_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "thesis.txt").write_text("mine")
    if content is not None:
        (tmp_path / "world.json").write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="another folder"):
        TINY.write(tmp_path)
    assert contents(tmp_path) == before


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="expected a folder"):
        TINY.write(tmp_path / "file")


def test_the_settings_are_kept_readably(written):
    found = json.loads((written[0] / "world.json").read_text())
    assert found["seed"] == 5
    assert found["persons"] == 20
    assert World(**{name: found[name] for name in TINY.__dataclass_fields__}) == TINY


def test_several_processes_write_the_same(tmp_path, written):
    TINY.write(tmp_path, workers=2)
    assert contents(tmp_path) == contents(written[0])


@pytest.mark.parametrize(
    ("world", "options", "word"),
    [
        (replace(TINY, crops_per_person=7), {}, "2 crops"),
        (replace(TINY, cameras=1), {}, "2 cameras"),
        (replace(TINY, persons=4), {}, "group_size"),
        (TINY, {"train_fraction": 0.0}, "train_fraction"),
        (TINY, {"train_fraction": 1.0}, "train_fraction"),
        (TINY, {"quality": 0}, "quality"),
        (TINY, {"workers": 0}, "workers"),
        (replace(TINY, persons=9999, crops_per_person=101), {}, "number of pictures"),
    ],
)
def test_a_world_that_makes_no_data_set_is_refused_before_anything_is_written(tmp_path, world, options, word):
    with pytest.raises(DatasetError, match=word):
        world.write(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
