"""scripts/other-cameras: a data set seen as if by other cameras."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partalign.datasets import load_dataset
from partalign.datasets.generated import World

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "other-cameras"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    World(seed=1, persons=6, crops_per_person=6, cameras=3, height=128, width=64).write(folder)
    return folder


def seen(data: Path, out: Path, *numbers: str) -> dict[str, np.ndarray]:
    subprocess.run([sys.executable, SCRIPT, data, out, *numbers], check=True)
    split = load_dataset("market1501", out)
    crops = (*split.query, *split.gallery, *split.train)
    return {str(crop.path.relative_to(out)): np.asarray(Image.open(crop.path), np.float32) for crop in crops}


def test_every_crop_is_there_and_the_same_seed_gives_the_same(data, tmp_path):
    names = {str(path.relative_to(data)) for path in data.rglob("*.jpg")}
    first = seen(data, tmp_path / "a")
    assert set(first) == names
    again, other = seen(data, tmp_path / "b", "1", "1"), seen(data, tmp_path / "c", "2")
    assert all(np.array_equal(first[name], again[name]) for name in names)
    assert not any(np.array_equal(first[name], other[name]) for name in names)


def test_each_camera_has_its_own_size_and_light_and_strength_0_changes_next_to_nothing(data, tmp_path):
    changed, same = seen(data, tmp_path / "changed"), seen(data, tmp_path / "same", "1", "0")
    heights = {name: pixels.shape[0] for name, pixels in changed.items()}
    cameras = {name: name.split("_c")[-1][0] for name in heights}
    assert len({(cameras[name], height) for name, height in heights.items()}) == len(set(heights.values())) == 3
    for name, pixels in same.items():
        assert np.abs(pixels - np.asarray(Image.open(data / name), np.float32)).mean() < 4  # compressed once more
