import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.errors import VideoError
from partalign.people.detect import HogDetector, checked, intersections, suppress
from partalign.people.frames import open_source

BOXES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1)),
    max_size=8,
).map(lambda rows: np.array(rows, float).reshape(-1, 5))


@given(BOXES, BOXES)
def test_areas_in_common_are_those_of_painted_boxes(first, second):
    def painted(box):
        canvas = np.zeros((40, 40), bool)
        left, top, width, height = box[:4].astype(int)
        canvas[top : top + height, left : left + width] = True
        return canvas

    expected = [[(painted(a) & painted(b)).sum() for b in second] for a in first]
    assert intersections(first, second).tolist() == np.array(expected).reshape(len(first), len(second)).tolist()


@given(BOXES)
def test_suppression_keeps_the_best_and_none_twice(boxes):
    def same(a, b):
        common = intersections(a[None], b[None])[0, 0]
        areas = a[2] * a[3], b[2] * b[3]
        return common > 0.4 * (sum(areas) - common) or common > 0.6 * min(areas)

    expected: list[np.ndarray] = []
    for box in sorted(boxes, key=lambda box: -box[4]):
        if not any(same(box, kept) for kept in expected):
            expected.append(box)
    assert suppress(boxes).tolist() == [box.tolist() for box in expected]


def test_what_detectors_return_is_checked():
    assert checked([], len, "frame 1").shape == (0, 5)
    assert checked([(1, 2, 3, 4)], len, "frame 1").tolist() == [[1, 2, 3, 4, 1]]
    assert checked([(1, 2, 0, 4, 0.5), (1, 2, 3, 4, 0.5)], len, "frame 1").tolist() == [[1, 2, 3, 4, 0.5]]
    for odd in (None, "boxes", [1, 2, 3, 4], [(1, 2, 3)], [(1, 2, 3, float("nan"))], {"boxes": []}):
        with pytest.raises(VideoError, match=r"frame 7: expected boxes \(N, 5\)"):
            checked(odd, len, "frame 7")


def test_frames_of_any_size_are_searched():
    detector = HogDetector(rows=180)
    for shape in ((1, 1, 3), (30, 2000, 3), (2000, 30, 3), (180, 320, 3)):
        assert detector(np.full(shape, 90, np.uint8)).shape == (0, 5)


@pytest.mark.shared
def test_real_people_are_found_whole_and_the_empty_room_is_empty(shared):
    source = open_source(shared / "data/video/one-by-one-person-detection.mp4", 1)
    wanted = {
        21: None,
        131: (388, 15, 125, 380),
        281: (382, 0, 160, 384),
        801: (367, 34, 135, 347),
        1001: (386, 0, 134, 380),
    }
    detector = HogDetector()
    for frame in source.frames():
        if frame.number in wanted:
            found, expected = detector(frame.pixels()), wanted.pop(frame.number)
            sure = found[found[:, 4] >= 0.5]
            assert len(sure) == (expected is not None)
            if expected is not None:
                box = np.array([expected], float)
                common = intersections(sure, box)[0, 0]
                assert common > 0.55 * (box[0, 2] * box[0, 3] + sure[0, 2] * sure[0, 3] - common)
        if not wanted:
            break
    assert not wanted
