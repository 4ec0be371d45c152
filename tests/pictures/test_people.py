import numpy as np
import pytest
from PIL import Image

from partalign.crops import Crop
from partalign.errors import ShapeError
from partalign.pictures import people
from partalign.pictures.people import draw_tracklets
from partalign.pictures.theme import DARK


def make(root, camera, tracklet, time, colour):
    path = root / f"{camera}-{tracklet}-{time}.png"
    Image.new("RGB", (30, 60), colour).save(path)
    return Crop(path, None, camera, tracklet, time)


def colours(sheet, columns, rows):
    """The colour in the middle of each place."""
    pixels = np.asarray(sheet)
    step_x, step_y = (pixels.shape[1] - 16) // columns, (pixels.shape[0] - 16) // rows
    return [
        [tuple(pixels[16 + step_y * r + 120, 16 + step_x * c + 60].tolist()) for c in range(columns)]
        for r in range(rows)
    ]


def test_the_middle_crop_of_each_tracklet_by_camera_and_time(tmp_path):
    crops = [
        make(tmp_path, "b", "b-1", 5.0, "red"),
        make(tmp_path, "a", "a-2", 90.0, "lime"),
        make(tmp_path, "a", "a-1", 1.0, "black"),
        make(tmp_path, "a", "a-1", 2.0, "blue"),
        make(tmp_path, "a", "a-1", 9.0, "black"),
    ]
    assert colours(draw_tracklets(crops), 3, 1) == [[(0, 0, 255), (0, 255, 0), (255, 0, 0)]]


def test_of_too_many_as_many_are_chosen_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "MOST", 12)
    crops = [make(tmp_path, "a", f"{number:03d}", float(number), (number, 0, 0)) for number in range(36)]
    shown = colours(draw_tracklets(crops), 10, 2)
    assert [red for row in shown for red, *_ in row][:12] == list(range(0, 36, 3))


def test_a_crop_that_cannot_be_read_leaves_its_place(tmp_path):
    crop = make(tmp_path, "a", "1", 0.0, "red")
    crop.path.write_bytes(b"")
    assert draw_tracklets([crop], theme=DARK).size == draw_tracklets([make(tmp_path, "b", "1", 0.0, "red")]).size


def test_nothing_to_draw_is_refused():
    with pytest.raises(ShapeError, match="at least one crop"):
        draw_tracklets([])


def test_times_are_written_as_clocks_show_them():
    shown = [people._clock(time) for time in (None, 0.0, 59.9, 3661.0, 1_795_420_800.0)]
    assert shown == ["", "0:00:00", "0:00:59", "1:01:01", "08:00:00"]
