import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from partalign.crops import Crop
from partalign.datasets import keypoints
from partalign.datasets.keypoints import COCO_JOINTS, JOINTS, LIMBS, MIRROR, PoseExamples
from partalign.errors import AnnotationError, DatasetError, ShapeError

HEADER = "name:keypoints_y:keypoints_x\n"
NUMBERS = "[" + ", ".join(map(str, range(18))) + "]"


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "joints.csv").write_text(text)
    return tmp_path / "joints.csv"


def joint(name: str) -> int:
    return JOINTS.index(name)


# Constants


def test_joints_and_limbs_are_openposes():
    assert len(JOINTS) == 18
    assert len(LIMBS) == len(set(LIMBS)) == 19
    assert {index for limb in LIMBS for index in limb} == set(range(18))
    # The pairs of the released OpenPose network, by number (channels 0-37 of its L1 branch).
    assert LIMBS[:6] == ((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13))
    assert LIMBS[6:14] == ((1, 2), (2, 3), (3, 4), (2, 16), (1, 5), (5, 6), (6, 7), (5, 17))
    assert LIMBS[14:] == ((1, 0), (0, 14), (0, 15), (14, 16), (15, 17))


def test_mirror_swaps_sides():
    assert [MIRROR[MIRROR[index]] for index in range(18)] == list(range(18))
    assert {JOINTS[i] for i in range(18) if MIRROR[i] == i} == {"Nose", "Neck"}
    assert all(JOINTS[MIRROR[i]][1:] == JOINTS[i][1:] for i in range(18) if MIRROR[i] != i)
    mirrored_limbs = {frozenset((MIRROR[a], MIRROR[b])) for a, b in LIMBS}
    assert mirrored_limbs == {frozenset(limb) for limb in LIMBS}


def test_mirrored_joints():
    joints = np.zeros((2, 18, 3), np.float32)
    joints[1, joint("RWrist")] = (0.25, 0.5, 1)
    found = keypoints.mirror(joints)
    assert found[1, joint("LWrist")].tolist() == [0.75, 0.5, 1]
    assert np.count_nonzero(found) == 3
    assert np.array_equal(keypoints.mirror(found), joints)


# CSV


def test_a_line(tmp_path):
    y, x = list(range(20, 38)), list(range(40, 58))
    y[3] = x[3] = -1
    table = keypoints.read_csv(csv(tmp_path, f"{HEADER}0224_c6s1_055726_02.jpg: {y}: {x}\n\n"))
    joints = table["0224_c6s1_055726_02.jpg"]
    assert joints.dtype == np.float32
    assert joints[0].tolist() == [40, 20, 1]
    assert joints[3].tolist() == [0, 0, 0]
    assert joints[17].tolist() == [57, 37, 1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        ("name,x,y\n", "'name,x,y'"),
        (f"{HEADER}a.jpg {NUMBERS}: {NUMBERS}\n", "line 2"),
        (f"{HEADER}a.jpg: {NUMBERS}\n", "line 2"),
        (f"{HEADER}\na.jpg: {NUMBERS}: [1, 2]\n", "line 3: .* found 2 numbers"),
        (f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS.replace('17', 'x')}\n", "could not convert"),
        (f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS.replace('17', 'nan')}\n", "outside 0 to 64"),
        (f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS.replace('17', '65')}\n", "outside 0 to 64"),
        (f"{HEADER}a.jpg: {NUMBERS.replace('17', '129')}: {NUMBERS}\n", "outside 0 to 128"),
        (f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS.replace('17', '-1')}\n", "only one of x and y"),
        (f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS}\na.jpg: {NUMBERS}: {NUMBERS}", "line 3: .* a second line for a.jpg"),
        (f"{HEADER}../a.jpg: {NUMBERS}: {NUMBERS}\n", "line 2"),
    ],
)
def test_malformed_csv(tmp_path, text, found):
    with pytest.raises(AnnotationError, match=found) as caught:
        keypoints.read_csv(csv(tmp_path, text))
    assert "joints.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_that_cannot_be_read(tmp_path):
    with pytest.raises(AnnotationError, match="No such file"):
        keypoints.read_csv(tmp_path / "gone.csv")
    (tmp_path / "joints.csv").write_bytes(HEADER.encode() + b"\xff\xfe")
    with pytest.raises(AnnotationError, match="cannot read it"):
        keypoints.read_csv(tmp_path / "joints.csv")


NAMES = st.text(st.characters(categories=("L", "N"), include_characters="-_."), min_size=1, max_size=12)
POINTS = arrays.arrays(np.float32, (18, 3), elements=st.integers(0, 6400).map(lambda n: n / 100))


@given(st.dictionaries(NAMES, POINTS, max_size=4))
def test_csv_keeps_what_was_written(tmp_path_factory, table):
    for joints in table.values():
        joints[:, 2] = joints[:, 2] > 32
        joints[joints[:, 2] == 0] = 0
    path = tmp_path_factory.mktemp("csv") / "joints.csv"
    keypoints.write_csv(path, table)
    found = keypoints.read_csv(path)
    assert list(found) == list(table)
    assert all(np.array_equal(found[name], table[name]) for name in table)


@given(st.text(max_size=120))
def test_no_line_raises_anything_but_annotation_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "joints.csv"
    path.write_bytes(f"{HEADER}a.jpg: {NUMBERS}: {NUMBERS}\n{text}".encode("utf-8", "surrogatepass"))
    try:
        names = list(keypoints.read_csv(path))
    except AnnotationError:
        names = ["a.jpg"]
    assert names[0] == "a.jpg"


def test_examples_are_fractions_of_the_crop(tmp_path):
    y, x = [0, 127] + [-1] * 16, [0, 63] + [-1] * 16
    path = csv(tmp_path, f"{HEADER}a.jpg: {y}: {x}\n")
    crops = [Crop(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    examples = keypoints.examples_from_csv(path, crops)
    assert examples.paths == (tmp_path / "a.jpg",)
    assert examples.boxes == (None,)
    assert examples.joints.dtype == np.float32
    assert examples.joints[0, 0].tolist() == [0.5 / 64, 0.5 / 128, 1]
    assert examples.joints[0, 1].tolist() == [63.5 / 64, 127.5 / 128, 1]
    assert not examples.joints[0, 2:].any()
    assert examples.notes == ("1 of 2 crops have no key points in joints.csv",)
    with pytest.raises(AnnotationError, match="key points of 1 crops, found none"):
        keypoints.examples_from_csv(path, crops[1:])


def test_numbers_of_rows_must_agree():
    with pytest.raises(ShapeError, match=r"\(1, 18, 3\)"):
        PoseExamples((Path("a"),), (None,), np.zeros((1, 17, 3)))
    with pytest.raises(ShapeError, match="as many boxes"):
        PoseExamples((Path("a"),), (), np.zeros((1, 18, 3)))


def test_examples_of_a_data_set_are_its_training_crops(tmp_path):
    lines = []
    for part, name in (("bounding_box_train", "0002"), ("query", "0001"), ("bounding_box_test", "0001")):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{name}_c1s1_000451_03.jpg").touch()
        lines.append(f"{name}_c1s1_000451_03.jpg: {NUMBERS}: {NUMBERS}")
    path = csv(tmp_path, HEADER + "\n".join(lines[:2]))
    assert [p.parent.name for p in keypoints.load_examples(path, tmp_path).paths] == ["bounding_box_train"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="found none"):
        keypoints.load_examples(path, tmp_path / "empty")


# COCO


def person(image: int = 1, **changes) -> dict:
    """One person of 100 x 200 pixels at (50, 20), all joints known, joint k at (60 + k, 30 + 5k)."""
    points = [value for k in range(17) for value in (60 + k, 30 + 5 * k, 2 - k % 2)]
    return {"image_id": image, "bbox": [50, 20, 100, 200], "iscrowd": 0, "keypoints": points} | changes


def coco(tmp_path: Path, *persons: dict) -> tuple[Path, Path]:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 300, "height": 400} for n in (1, 2)]
    (tmp_path / "1.jpg").touch()
    (tmp_path / "persons.json").write_text(json.dumps({"images": images, "annotations": persons}))
    return tmp_path / "persons.json", tmp_path


def test_coco_joints_under_openposes_names(tmp_path):
    examples = keypoints.read_coco(*coco(tmp_path, person()))
    assert examples.paths == (tmp_path / "1.jpg",)
    assert examples.boxes == ((50, 20, 100, 200),)
    for k, name in enumerate(COCO_JOINTS):
        x, y = (60 + k + 0.5 - 50) / 100, (30 + 5 * k + 0.5 - 20) / 200
        assert np.allclose(examples.joints[0, joint(name)], (x, y, 1))
    shoulders = examples.joints[0, [joint("LShoulder"), joint("RShoulder")]]
    assert np.allclose(examples.joints[0, joint("Neck")], shoulders.mean(0))
    assert examples.notes == ()


def test_coco_neck_needs_both_shoulders(tmp_path):
    annotation = person()
    annotation["keypoints"][3 * COCO_JOINTS.index("LShoulder") + 2] = 0
    joints = keypoints.load_examples(*coco(tmp_path, annotation)).joints[0]
    assert not joints[[joint("Neck"), joint("LShoulder")]].any()
    assert joints[:, 2].sum() == 16


@pytest.mark.parametrize(
    ("bbox", "box"),
    [
        ([50, 20, 100, 200], (50, 20, 100, 200)),
        ([50.5, 20, 50, 200], (25, 20, 101, 200)),  # too slim: widened about its middle, to whole pixels
        ([100, 150, 100, 100], (100, 100, 100, 200)),  # too low: made higher
        ([0, 0, 300, 400], (0, 0, 300, 400)),  # nothing beyond the picture's edges
        ([-20, -10, 120, 400], (0, 0, 140, 390)),
    ],
)
def test_coco_boxes_take_the_shape_of_a_person_crop(tmp_path, bbox, box):
    points = [value for k in range(17) for value in (120 + k, 160 + k, 2)]
    assert keypoints.read_coco(*coco(tmp_path, person(bbox=bbox, keypoints=points))).boxes == (box,)


def test_coco_joints_outside_the_box_are_unknown(tmp_path):
    annotation = person()
    annotation["keypoints"][:3] = [10, 30, 2]
    joints = keypoints.read_coco(*coco(tmp_path, annotation)).joints[0]
    assert joints[joint("Nose")].tolist() == [0, 0, 0]


def test_coco_left_out_and_counted(tmp_path):
    few = person()["keypoints"][:12] + [0] * 39
    persons = [person(iscrowd=1), person(bbox=[50, 20, 30, 40]), person(keypoints=few), person(image=2)]
    persons += [person(bbox=[400, 20, 50, 100])]
    examples = keypoints.read_coco(*coco(tmp_path, person(), *persons))
    assert len(examples) == 1
    assert sorted(note.split(": ")[1] for note in examples.notes) == [
        "box outside the picture",
        "crowd",
        "fewer than 5 joints",
        "lower than 64 pixels",
        "picture missing",
    ]
    assert all(note.startswith("1 of 6 persons left out") for note in examples.notes)
    with pytest.raises(AnnotationError, match="1 of 1 persons left out: crowd"):
        keypoints.read_coco(*coco(tmp_path, persons[0]))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"keypoints": [1, 2, 2]}, "3 numbers, or not finite ones, for 17 joints"),
        ({"keypoints": [float("nan")] * 51}, "51 numbers"),
        ({"keypoints": "no"}, "Error"),
        ({"bbox": [1, 2]}, "not enough values"),
        ({"bbox": [float("inf")] * 4}, "Error"),
        ({"bbox": None}, "TypeError"),
        ({"image_id": 7}, "KeyError 7"),
        ({"image_id": [7]}, "TypeError"),
    ],
)
def test_coco_malformed_annotations(tmp_path, change, found):
    with pytest.raises(AnnotationError, match=f"annotation 1 .*{found}"):
        keypoints.read_coco(*coco(tmp_path, person(), person(**change)))


@pytest.mark.parametrize("name", ["../1.jpg", "/etc/passwd"])
def test_coco_pictures_stay_in_their_folder(tmp_path, name):
    path, folder = coco(tmp_path, person())
    path.write_text(path.read_text().replace("1.jpg", name))
    with pytest.raises(AnnotationError, match="outside the folder"):
        keypoints.read_coco(path, folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": 3}', '{"images": [], "annotations": [1]}', "[" * 100_000])
def test_coco_other_json(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"other\.json: expected COCO person key points"):
        keypoints.read_coco(tmp_path / "other.json", tmp_path)


def test_coco_without_key_points(tmp_path):
    with pytest.raises(AnnotationError, match="found none"):
        keypoints.read_coco(*coco(tmp_path, {"image_id": 1, "bbox": [0, 0, 9, 9]}))


# Real key points


@pytest.mark.shared
def test_real_key_points(shared):
    table = keypoints.read_csv(shared / "data/market1501-keypoints/openpose18.csv")
    assert len(table) == 11_509
    joints = np.stack(list(table.values()))
    known = joints[..., 2] > 0
    assert 0.25 < 1 - known.mean() < 0.27  # 26% were not found
    assert joints[..., 0].max() == 63
    assert joints[..., 1].max() == 127
    middle = [np.median(joints[known[:, k], k, 1]) for k in range(18)]
    for above, below in [("Nose", "Neck"), ("Neck", "RHip"), ("RHip", "RKnee"), ("LHip", "LKnee"), ("LKnee", "LAnkle")]:
        assert middle[joint(above)] < middle[joint(below)]


@pytest.mark.shared
def test_real_examples(shared):
    path = shared / "data/market1501-keypoints/openpose18.csv"
    examples = keypoints.load_examples(path, shared / "data")
    assert len(examples) == 9_914
    assert examples.notes == ()
    assert examples.joints.min() == 0
    assert examples.joints.max() <= 1
