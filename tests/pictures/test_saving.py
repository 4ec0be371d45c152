import numpy as np
import pytest
from PIL import Image

from partalign.errors import SaveError
from partalign.pictures.saving import check_target, save_picture


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_picture_is_written_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    save_picture(Image.fromarray(pixels), tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "new/a.png"), pixels)


def test_fewer_colours_make_a_smaller_file(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    save_picture(picture, tmp_path / "a.png")
    save_picture(picture, tmp_path / "b.png", colours=16)
    assert len(np.unique(pixels_of(tmp_path / "b.png").reshape(-1, 3), axis=0)) <= 16
    assert (tmp_path / "b.png").stat().st_size < (tmp_path / "a.png").stat().st_size / 2


@pytest.mark.parametrize("name", ["a.jpg", "a", "folder.png"])
def test_what_is_no_png_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SaveError, match=r"ends in \.png"):
        check_target(tmp_path / name)


def test_dithering_keeps_the_mean_of_a_ramp_with_few_colours(tmp_path):
    ramp = np.repeat(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (40, 1))[..., None], 3, axis=2)
    errors = {}
    for dither in (False, True):
        save_picture(Image.fromarray(ramp), tmp_path / "r.png", colours=4, dither=dither)
        found = pixels_of(tmp_path / "r.png").astype(float)
        assert len(np.unique(found)) <= 4
        blocks = (found - ramp).reshape(4, 10, 20, 10, 3).mean(axis=(1, 3))[:, 4:-4]
        errors[dither] = np.abs(blocks).mean()
    assert errors[True] < errors[False] / 3
