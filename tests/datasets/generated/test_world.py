import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.datasets.generated import World
from partalign.errors import DatasetError

SMALL = World(persons=24, height=64, width=32, seed=1)
FINGERPRINT = """
import hashlib
from partalign.datasets.generated import World
pictures, joints = World(persons=24, height=64, width=32, seed=1).render([200, 3, 77])
print(hashlib.sha256(pictures.tobytes() + joints.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def whole() -> tuple[np.ndarray, np.ndarray]:
    return SMALL.render(range(len(SMALL)))


def test_pictures_and_joints_have_their_shapes(whole):
    pictures, joints = whole
    assert pictures.shape == (288, 64, 32, 3)
    assert pictures.dtype == np.uint8
    assert joints.shape == (288, 18, 3)
    assert joints.dtype == np.float32
    assert set(np.unique(joints[..., 2])) == {0, 1}
    assert 40 < pictures.mean() < 180
    assert SMALL.render([])[0].shape == (0, 64, 32, 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 287), min_size=1, max_size=40))
def test_a_picture_is_the_same_in_any_batch_and_order(whole, numbers):
    pictures, joints = SMALL.render(numbers)
    assert np.array_equal(pictures, whole[0][numbers])
    assert np.array_equal(joints, whole[1][numbers])


def test_a_picture_is_the_same_alone_and_without_being_painted(whole):
    for number in range(0, 288, 7):
        pictures, joints = SMALL.render([number])
        assert np.array_equal(pictures[0], whole[0][number])
        assert np.array_equal(joints[0], whole[1][number])
    assert np.array_equal(SMALL.joints(range(288)), whole[1])


def test_a_picture_is_the_same_in_another_process(whole):
    numbers = [200, 3, 77]
    run = subprocess.run([sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, check=True)
    expected = hashlib.sha256(whole[0][numbers].tobytes() + whole[1][numbers].tobytes()).hexdigest()
    assert run.stdout.strip() == expected


def test_more_persons_or_cameras_keep_those_there_were(whole):
    more = replace(SMALL, persons=40)
    assert np.array_equal(more.render(range(0, 288, 5))[0], whole[0][::5])
    four, five = replace(SMALL, cameras=4, crops_per_person=4), replace(SMALL, cameras=5, crops_per_person=4)
    same = [i for i in range(96) if four.camera(i) == five.camera(i)]
    assert len(same) > 10
    assert np.array_equal(four.render(same)[0], five.render(same)[0])


def test_another_seed_is_another_world(whole):
    other = replace(SMALL, seed=2).render(range(50))[0].astype(int)
    assert np.abs(other - whole[0][:50]).mean(axis=(1, 2, 3)).min() > 10


def test_persons_and_cameras_are_even():
    seen = Counter((SMALL.person(i), SMALL.camera(i)) for i in range(len(SMALL)))
    assert set(seen.values()) == {2}
    assert {person for person, _ in seen} == {f"{n:04d}" for n in range(1, 25)}
    assert {camera for _, camera in seen} == {f"c{n}" for n in range(1, 7)}
    few = replace(SMALL, crops_per_person=3)
    assert set(Counter(few.camera(i) for i in range(len(few))).values()) == {12}


def change_at(joints: np.ndarray, change: np.ndarray) -> np.ndarray:
    height, width = change.shape[1:]
    x, y = np.round(joints[..., 0]).astype(int), np.round(joints[..., 1]).astype(int)
    return change[np.arange(len(joints))[:, None], np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]


def test_there_is_a_person_at_every_visible_joint(whole):
    pictures, joints = whole
    change = np.abs(pictures.astype(int) - SMALL.scenery(range(len(SMALL)))).max(axis=-1)
    visible = joints[..., 2] > 0
    at_joints = change_at(joints, change) > 4
    assert at_joints[visible].mean() > 0.99  # the rest wear what is behind them
    assert 0.3 < (change == 0).mean() < 0.7  # away from the person, nothing changes, noise included


def test_joints_outside_the_picture_are_not_visible(whole):
    x, y, visible = np.moveaxis(whole[1], -1, 0)
    inside = (x > -0.5) & (x < 31.5) & (y > -0.5) & (y < 63.5)
    assert not (visible[~inside] > 0).any()
    assert (~inside).any(axis=1).mean() > 0.3  # boxes do cut people


def test_tight_unoccluded_boxes_show_everything_but_what_the_body_hides():
    joints = replace(SMALL, misalignment=0.0, occlusion=0.0).joints(range(288))
    assert (joints[..., 0] > -0.5).all()
    assert (joints[..., 1] < 63.5).all()
    assert joints[:, [1, 2, 5, 8, 11], 2].all()  # neck, shoulders, hips: nothing of one's own hides them
    assert joints[:, 14:18, 2].mean() < 0.8  # faces seen from behind
    assert SMALL.joints(range(288))[..., 2].mean() < joints[..., 2].mean() - 0.05


def test_occlusion_hides_joints_in_its_share_of_the_pictures():
    free, full = (replace(SMALL, occlusion=share, misalignment=0.0) for share in (0.0, 1.0))
    a, b = free.joints(range(288)), full.joints(range(288))
    assert np.array_equal(a[..., :2], b[..., :2])  # the person stands as before
    hidden = (a[..., 2] > b[..., 2]).any(axis=1)
    assert 0.6 < hidden.mean() < 0.9  # some things stand beside
    assert not (b[..., 2] > a[..., 2]).any()
    quarter = replace(free, occlusion=0.25).joints(range(288))
    assert 0.1 < (a[..., 2] > quarter[..., 2]).any(axis=1).mean() < 0.35


def test_colours_at_joints_tell_people_apart_who_share_them(whole):
    """Within a group, colours alone say who belongs to it, and where they sit says who it is."""
    pictures, joints = (whole[0] / 255).astype(np.float32), whole[1]
    person, camera = np.arange(288) // 12, np.array([SMALL.camera(i) for i in range(288)])
    limbs = np.array([(1, 8), (1, 11), (2, 3), (5, 6), (8, 9), (11, 12), (9, 9), (12, 12)])
    middle = (joints[:, limbs[:, 0]] + joints[:, limbs[:, 1]]) / 2
    x, y = np.clip(np.round(middle[..., 0]), 0, 31).astype(int), np.clip(np.round(middle[..., 1]), 0, 63).astype(int)
    colors = pictures[np.arange(288)[:, None], y, x]
    known = (middle[..., 2] == 1)[..., None]
    parts = (colors * known).reshape(288, 4, 2, 3).sum(axis=2) / np.maximum(known.reshape(288, 4, 2, 1).sum(axis=2), 1)

    def rank_1(features: np.ndarray) -> float:
        features = features.reshape(288, -1).copy()
        for name in np.unique(camera):  # cameras differ in colour
            features[camera == name] -= features[camera == name].mean(axis=0)
        distance = ((features[:, None] - features) ** 2).sum(axis=-1)
        distance[(person[:, None] == person) & (camera[:, None] == camera)] = np.inf
        return float((person[distance.argmin(axis=1)] == person).mean())

    assert rank_1(parts) > rank_1(pictures.mean(axis=(1, 2))) + 0.15


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("persons", 0),
        ("persons", 10_000),
        ("persons", 2.5),
        ("persons", True),
        ("cameras", 10),
        ("crops_per_person", 0),
        ("height", 31),
        ("height", 65),
        ("width", 8),
        ("misalignment", -0.1),
        ("misalignment", float("nan")),
        ("occlusion", 1.1),
        ("occlusion", "much"),
        ("group_size", 25),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(setting, value):
    with pytest.raises(DatasetError, match=setting) as caught:
        replace(SMALL, **{setting: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("numbers", [[288], [-1], [[0]], [0.5], ["one"]])
def test_unknown_picture_numbers_are_refused(numbers):
    with pytest.raises(DatasetError, match="expected"):
        SMALL.render(numbers)


@settings(max_examples=12, deadline=None)
@given(
    st.builds(
        World,
        seed=st.integers(0, 2**32 - 1),
        persons=st.integers(1, 9),
        cameras=st.integers(1, 9),
        crops_per_person=st.integers(1, 5),
        height=st.integers(16, 80).map(lambda h: 2 * h),
        width=st.integers(8, 40).map(lambda w: 2 * w),
        misalignment=st.floats(0, 1.5),
        occlusion=st.floats(0, 1),
        group_size=st.integers(1, 24),
    )
)
def test_every_allowed_world_can_be_rendered(world):
    pictures, joints = world.render(range(len(world)))
    assert pictures.shape == (len(world), world.height, world.width, 3)
    assert np.isfinite(joints).all()
    assert pictures.std() > 5
    assert np.array_equal(world.render([len(world) - 1])[0][0], pictures[-1])
