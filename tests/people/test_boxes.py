import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.errors import PartAlignError, VideoError
from partalign.people.boxes import read_boxes

SIDE = st.floats(0.01, 5000, allow_nan=False)
BOX = st.tuples(st.floats(-500, 5000), st.floats(-500, 5000), SIDE, SIDE)


def write(root, text):
    path = root / "boxes.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@given(
    rows=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), BOX, st.floats(0.01, 1)), min_size=1),
    named=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n", ",-1,-1,-1\n"]),
)
def test_mot_text_gives_back_its_boxes(tmp_path_factory, rows, named, ending):
    lines = [
        f"{frame},{name if named else -1},{','.join(map(repr, box))},{score!r}" for frame, name, box, score in rows
    ]
    boxes = read_boxes(write(tmp_path_factory.mktemp("mot"), ending.join(lines) + ending))
    assert boxes.named == named
    for frame in range(1, 31):
        mine = [(str(name) if named else "", (*box, score)) for at, name, box, score in rows if at == frame]
        there = boxes.of(frame, time=0.0)
        assert list(boxes.ids[there]) == [name for name, _ in mine]
        assert boxes.values[there].tolist() == [list(values) for _, values in mine]


@given(
    rows=st.lists(st.tuples(st.integers(1, 30), BOX, st.text("aé \",;'漢7", min_size=1, max_size=5)), min_size=1),
    corners=st.booleans(),
    timed=st.booleans(),
)
def test_csv_gives_back_its_boxes(tmp_path_factory, rows, corners, timed):
    rows = [row for row in rows if row[2].strip()] or [(1, (0, 0, 1, 1), "a")]
    file = io.StringIO()
    writer = csv.writer(file)
    sides = ["right", "bottom"] if corners else ["width", "height"]
    writer.writerow(["Top", "left", "camera", *sides, "id", "time" if timed else "frame"])
    for frame, (left, top, width, height), name in rows:
        ends = (left + width, top + height) if corners else (width, height)
        writer.writerow([top, left, "x", *ends, name, f"{frame / 8:.3f}" if timed else frame])
    boxes = read_boxes(write(tmp_path_factory.mktemp("csv"), "\ufeff" + file.getvalue()))
    assert boxes.timed == timed
    for frame in range(1, 31):
        mine = [(name.strip(), box) for at, box, name in rows if at == frame]
        there = boxes.of(0 if timed else frame, frame / 8)
        assert list(boxes.ids[there]) == [name for name, _ in mine]
        expected = np.array([(*box, 1.0) for _, box in mine]).reshape(-1, 5)
        np.testing.assert_allclose(boxes.values[there], expected, atol=1e-9, rtol=0)


@given(st.binary(max_size=200) | st.text('0123456789,.-+eEna "\n;frametopleftwidh', max_size=200).map(str.encode))
def test_whatever_the_file_holds_it_is_read_or_refused_in_one_line(tmp_path_factory, content):
    try:
        boxes = read_boxes(write(tmp_path_factory.mktemp("any"), content))
    except PartAlignError as error:
        told = str(error)
        assert "boxes.txt" in told
        assert "\n" not in told
    else:
        assert len(boxes.at) == len(boxes.ids) == len(boxes.values) > 0
        assert np.isfinite(boxes.values).all()
        assert (np.diff(boxes.at) >= 0).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,1,0,0,5,5,1\n2,1,0,0,5,x,1\n", "line 2: expected a number, found 'x'"),
        ("1,1,0,0,5,5,1\n\n2,1,0,0,0,5,1\n", "line 3: expected a box with area, found 0 x 5"),
        ("1,1,0,0,5\n", "line 1: expected frame, id, left"),
        ("0,1,0,0,5,5,1\n", "line 1: expected a frame as a whole number from 1, found 0; add 1"),
        ("1.5,1,0,0,5,5,1\n", "line 1: expected a frame as a whole number"),
        ("1,1,0,0,nan,5,1\n", "line 1: expected a number"),
        ("1,1,0,0,5,5,1\n1,-1,0,0,5,5,1\n", "ids for all boxes or for none, found 1 boxes without"),
        ("frame,left,top,width\n1,0,0,5\n", "line 1: expected columns .* found no height"),
        ("frame,left,top,right,bottom\n1,9,0,5,5\n", "line 2: expected a box with area, found -4 x 5"),
        ("frame,left,top,width,height\n1,0,0,5\n", "line 2: expected 5 cells"),
        ("frame,left,top,width,height,score\n1,0,0,5,5,high\n", "line 2: expected `score`, found 'high'"),
        ("frame,left,top,width,height\n", "found none"),
        ("\n \n", "found an empty file"),
        (b"\xff\xfe1,2", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, told):
    with pytest.raises(VideoError, match=told):
        read_boxes(write(tmp_path, text))


def test_ground_truth_of_mot_keeps_pedestrians_that_count(tmp_path):
    lines = ["1,1,0,0,5,9,1,1,0.9", "1,2,0,0,5,9,0,1,0.9", "1,3,0,0,5,9,1,3,0.9", "2,1,1,0,5,9,1,1,1"]
    boxes = read_boxes(write(tmp_path, "\n".join(lines)))
    assert boxes.ids == ("1", "1")
    assert boxes.at.tolist() == [1, 2]


def test_unknown_confidence_counts_as_sure(tmp_path):
    boxes = read_boxes(write(tmp_path, "3,-1,0,0,5,9,-1,-1,-1,-1"))
    assert boxes.values.tolist() == [[0, 0, 5, 9, 1]]
    assert not boxes.named


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"none\.txt: expected boxes"):
        read_boxes(tmp_path / "none.txt")
