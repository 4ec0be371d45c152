import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.people.track import SURE, Tracker

RATE = 5.0


def run(tracker, frames, rate=RATE):
    """Feed lists of boxes; returns the numbers frame by frame, and the tracklets that ended."""
    numbers, ended = [], []
    for step, boxes in enumerate(frames):
        found, closed = tracker.update(step / rate, np.array(boxes, float).reshape(-1, 5))
        numbers.append(found)
        ended += closed
    return numbers, ended


def walker(start, speed, steps, top=100, width=50, height=100, score=0.9):
    """A person who walks: `speed` in widths a frame."""
    return [(start + speed * width * step, top, width, height, score) for step in range(steps)]


@pytest.mark.parametrize("speed", [0, 0.3, 0.9])
def test_one_person_is_one_tracklet_however_fast(speed):
    numbers, _ = run(Tracker(), [[box] for box in walker(0, speed, 30)])
    assert numbers == [[1]] * 30


def test_people_who_pass_each_other_keep_their_tracklets():
    there, back = walker(0, 0.5, 30), walker(700, -0.5, 30, top=130)
    frames = [[a, b] if step % 2 else [b, a] for step, (a, b) in enumerate(zip(there, back, strict=True))]
    numbers, _ = run(Tracker(), frames)
    assert numbers == [[2, 1] if step % 2 else [1, 2] for step in range(30)]


def test_a_gap_is_bridged_on_the_way_and_a_long_one_ends_the_tracklet():
    frames = [[box] for box in walker(0, 0.4, 40)]
    for hidden, tracklets in ((range(10, 18), {1}), (range(10, 22), {1, 2})):
        numbers, ended = run(Tracker(gap=2), [[] if step in hidden else boxes for step, boxes in enumerate(frames)])
        assert {number for found in numbers for number in found} == tracklets
        assert ended == ([1] if len(tracklets) == 2 else [])


def test_unsure_boxes_go_on_but_begin_nothing():
    unsure = SURE - 0.1
    frames = [[box] for box in walker(0, 0.3, 5, score=unsure) + walker(75, 0.3, 5) + walker(150, 0.3, 5, score=unsure)]
    numbers, _ = run(Tracker(), frames)
    assert numbers == [[-1]] * 5 + [[1]] * 10


def test_a_box_inside_a_person_is_no_other_person():
    frames = [[box, (box[0] + 5, box[1], 30, 40, 0.8)] for box in walker(0, 0.1, 10)]
    numbers, _ = run(Tracker(), frames)
    assert numbers == [[1, -1]] * 10


def test_a_person_around_a_false_box_is_one():
    """Legs are found first, then the whole person again and again."""
    frames = [[(120, 200, 30, 60, 0.6)]] * 2 + [[(100, 100, 70, 160, 0.9)]] * 10
    numbers, _ = run(Tracker(), frames)
    assert numbers == [[1]] * 2 + [[2]] * 10


@pytest.mark.parametrize(("share", "tracklets"), [(0.05, {1}), (0.5, {1, 2})])
def test_who_is_missed_is_still_there_unless_something_moved_in_that_place(share, tracklets):
    tracker, numbers = Tracker(gap=1), set()
    for step in range(60):
        there = step < 10 or step >= 40
        boxes = np.array([(100, 100, 50, 100, 0.9)] if there else [], float).reshape(-1, 5)
        numbers |= {*tracker.update(step / RATE, boxes)[0]}
        moved = share if step == 10 else 0.0  # once, when the person was last there
        tracker.hold(step / RATE, lambda boxes, moved=moved: np.full(len(boxes), moved))
    assert numbers == tracklets


@given(
    st.lists(
        st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(5, 40)] * 2, st.floats(0, 1)), max_size=4),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_whatever_comes_numbers_are_unique_and_a_saved_tracker_goes_on_alike(frames, cut):
    numbers, ended = run(Tracker(gap=0.5), frames)
    for found in numbers:
        named = [number for number in found if number > 0]
        assert len(named) == len(set(named))
    assert len(ended) == len(set(ended))
    first, second = Tracker(gap=0.5), Tracker(gap=0.5)
    again = []
    for step, boxes in enumerate(frames):
        tracker = first if step < cut else second
        if step == cut:
            second.from_json(json.loads(json.dumps(first.to_json())))
        again.append(tracker.update(step / RATE, np.array(boxes, float).reshape(-1, 5))[0])
    assert again == numbers
