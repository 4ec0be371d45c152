import numpy as np
import pytest
from PIL import Image

from partalign.errors import SaveError
from partalign.pictures.saving import check_target, save_picture


def test_a_picture_is_written_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    save_picture(Image.fromarray(pixels), tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new/a.png").convert("RGB")), pixels)


def test_fewer_colours_make_a_smaller_file(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    save_picture(picture, tmp_path / "a.png")
    save_picture(picture, tmp_path / "b.png", colours=16)
    assert len(Image.open(tmp_path / "b.png").convert("RGB").getcolors()) <= 16
    assert (tmp_path / "b.png").stat().st_size < (tmp_path / "a.png").stat().st_size / 2


@pytest.mark.parametrize("name", ["a.jpg", "a", "folder.png"])
def test_what_is_no_png_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SaveError, match=r"ends in \.png"):
        check_target(tmp_path / name)
