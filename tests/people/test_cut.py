import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from partalign.people.cut import Candidate, Cutting, cut, qualities, region_of

NUMBER = st.floats(-1e6, 1e6)
DRAW = np.random.default_rng(0)


def candidate(time, quality=1.0, shade=None):
    pixels = DRAW.integers(0, 256, (60, 40, 3), np.uint8) if shade is None else np.full((60, 40, 3), shade, np.uint8)
    return cut(pixels, (0, 0, 20, 40), int(time * 10) + 1, time, quality)


@given(NUMBER, NUMBER, st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.integers(1, 5000), st.integers(1, 5000))
def test_regions_lie_in_the_frame_and_hold_what_the_box_shows(left, top, w, h, width, height):
    x, y, across, down = region_of(np.array([left, top, w, h, 1.0]), width, height)
    assert 0 <= x <= x + across <= width
    assert 0 <= y <= y + down <= height
    # The part of the box that is in the frame is in the region, up to rounding.
    assert x <= max(left, 0) + 1 or left > width
    assert x + across >= min(left + w, width) - 1 or left + w < 0


def test_regions_are_one_to_two_around_the_same_middle():
    assert region_of(np.array([100, 100, 20, 80, 1.0]), 500, 500) == (90, 100, 40, 80)
    assert region_of(np.array([100, 100, 60, 80, 1.0]), 500, 500) == (100, 80, 60, 120)
    assert region_of(np.array([-30, 100, 40, 80, 1.0]), 500, 500) == (0, 100, 10, 80)
    assert region_of(np.array([600, 100, 40, 80, 1.0]), 500, 500)[2] == 0


def test_people_seen_whole_are_better_than_cut_off_or_hidden_ones():
    boxes = np.array([(60, 10, 40, 80, 0.9), (-20, 10, 40, 80, 0.9), (200, 10, 40, 80, 0.9), (210, 10, 40, 80, 0.9)])
    whole, beside, *both = qualities(boxes, 400, 300)
    assert whole == pytest.approx(0.95)
    assert beside == pytest.approx(0.95 * 0.5)
    assert both == pytest.approx([0.95 * 0.25] * 2)
    assert qualities(boxes[:0], 400, 300).shape == (0,)


def test_a_crop_is_the_region_of_the_frame():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[20:60, 30:50] = (200, 40, 40)
    crop = cut(pixels, (30, 20, 20, 40), 1, 0.0, 1.0)
    picture = np.asarray(Image.open(io.BytesIO(crop.jpeg)), int)
    assert picture.shape == (40, 20, 3)
    assert np.abs(picture - (200, 40, 40)).max() < 12


def test_the_best_crop_of_each_while_is_kept():
    cutting = Cutting()
    for step in range(20):
        cutting.add(candidate(step / 5, quality=1.0 if step % 5 == 3 else 0.5), every=1.0)
    cutting.close()
    assert [crop.time for crop in cutting.held] == [0.6, 1.6, 2.6, 3.6]


def test_what_looks_the_same_is_kept_once():
    cutting = Cutting()
    for step in range(60):
        cutting.add(candidate(step / 5, shade=100 + step % 5 if step < 30 else 130), every=1.0)
    cutting.close()
    assert len(cutting.held) == 2


def test_a_long_tracklet_gives_fewer_and_fewer_crops_and_holds_few_until_it_is_proven():
    long, unproven = Cutting(number="0001"), Cutting()
    written = 0
    for second in range(3000):
        for cutting in (long, unproven):
            cutting.add(candidate(float(second)), every=1.0)
        written += len(long.held)
        long.held = []
        assert len(unproven.held) <= 16
    assert 200 < written < 300  # the square root of twenty times the seconds
    times = [crop.time for crop in unproven.held]
    assert times == sorted(times)
    assert times[-1] > 1500


def test_a_saved_tracklet_goes_on_alike():
    crops = [candidate(step / 5, quality=float(DRAW.uniform())) for step in range(40)]
    for stop in range(0, 40, 3):
        cutting = Cutting(boxes=3, motion=0.25)
        for crop in crops[:stop]:
            cutting.add(crop, 1.0)
        copy = Cutting.from_json(json.loads(json.dumps(cutting.to_json())))
        assert copy == cutting
        for crop in crops[stop:]:
            cutting.add(crop, 1.0)
            copy.add(Candidate.from_json(json.loads(json.dumps(crop.to_json()))), 1.0)
        assert copy == cutting
