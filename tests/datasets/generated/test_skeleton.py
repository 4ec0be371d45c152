import numpy as np
import pytest

from partalign.datasets import keypoints
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.draws import Draws

N = 2000


@pytest.fixture(scope="module")
def bodies() -> sk.Bodies:
    return sk.Bodies.draw(Draws(0, "body", np.arange(N)), np.arange(N) % 2 == 0)


@pytest.fixture(scope="module")
def points(bodies) -> np.ndarray:
    return sk.pose(bodies, sk.draw_angles(Draws(0, "picture", np.arange(N))))


def distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(points[:, a] - points[:, b], axis=1)


def test_joints_are_in_openpose_order():
    named = {
        keypoints.JOINTS[i] for pair in (sk.SHOULDER, sk.ELBOW, sk.WRIST, sk.HIP, sk.KNEE, sk.ANKLE) for i in pair[:1]
    }
    assert named == {"RShoulder", "RElbow", "RWrist", "RHip", "RKnee", "RAnkle"}
    assert [keypoints.JOINTS[i] for i in (sk.NOSE, sk.NECK, *sk.EYE, *sk.EAR)] == [
        "Nose",
        "Neck",
        "REye",
        "LEye",
        "REar",
        "LEar",
    ]


def test_bones_keep_their_length_in_every_pose(bodies, points):
    for side in (0, 1):
        assert np.allclose(distance(points, sk.HIP[side], sk.KNEE[side]), 0.245 * bodies.height * bodies.legs)
        assert np.allclose(distance(points, sk.KNEE[side], sk.ANKLE[side]), 0.235 * bodies.height * bodies.legs)
        assert np.allclose(distance(points, sk.SHOULDER[side], sk.ELBOW[side]), 0.168 * bodies.height)
        assert np.allclose(distance(points, sk.ELBOW[side], sk.WRIST[side]), 0.145 * bodies.height)
    assert np.allclose(distance(points, *sk.EYE), 0.04 * bodies.height)


def test_people_stand_on_the_ground_and_knees_bend_one_way(bodies, points):
    lowest = points[:, [*sk.ANKLE, *sk.TOE], 1].min(axis=1)
    assert lowest.min() >= 0
    assert lowest.max() <= 0.05 * bodies.height.max()
    assert np.all(points[:, sk.TOP, 1] > points[:, sk.NECK, 1])
    assert np.all(np.abs(points[:, sk.TOP, 1] / bodies.height - 0.97) < 0.12)
    for side in (0, 1):
        thigh = points[:, sk.KNEE[side]] - points[:, sk.HIP[side]]
        shin = points[:, sk.ANKLE[side]] - points[:, sk.KNEE[side]]
        assert np.all(np.arctan2(thigh[:, 2], -thigh[:, 1]) >= np.arctan2(shin[:, 2], -shin[:, 1]) - 1e-6)


def test_poses_vary(points):
    strides = np.abs(points[:, sk.ANKLE[0], 2] - points[:, sk.ANKLE[1], 2])
    assert np.quantile(strides, 0.1) < 0.15
    assert np.quantile(strides, 0.9) > 0.5
    raised = points[:, sk.WRIST, 1].max(axis=1) > points[:, sk.NECK, 1]
    assert 0.02 < raised.mean() < 0.2


def test_an_arm_that_holds_something_hangs(bodies):
    loaded = np.zeros((N, 2), bool)
    loaded[:, 1] = True
    points = sk.pose(bodies, sk.draw_angles(Draws(0, "picture", np.arange(N)), loaded))
    assert np.all(points[:, sk.WRIST[1], 1] < points[:, sk.ELBOW[1], 1])
    free = sk.pose(bodies, sk.draw_angles(Draws(0, "picture", np.arange(N))))
    assert np.array_equal(points[:, sk.WRIST[0]], free[:, sk.WRIST[0]])


def test_a_view_turns_and_keeps_distances(points):
    random = np.random.default_rng(0)
    seen = sk.view(points, random.uniform(0, 2 * np.pi, N), random.uniform(0, 0.5, N))
    for a, b in ((0, 10), (4, 13), (16, 17)):
        assert np.allclose(distance(seen, a, b), distance(points, a, b))


def test_who_faces_the_camera_has_the_left_hand_right_in_the_picture_and_the_head_up(points):
    level = np.zeros(N)
    front, back = sk.view(points, level, level), sk.view(points, level + np.pi, level)
    left, right = sk.SHOULDER[1], sk.SHOULDER[0]
    assert np.all(front[:, left, 0] > front[:, right, 0])
    assert np.all(back[:, left, 0] < back[:, right, 0])
    assert np.all(front[:, sk.NECK, 1] < front[:, sk.PELVIS, 1])
    assert np.all(front[:, sk.NOSE, 2] > front[:, sk.HEAD, 2])
    side = sk.view(points, level + np.pi / 2, level)  # faces right: the right shoulder is nearer
    assert np.all(side[:, right, 2] > side[:, left, 2])
    assert np.mean(side[:, sk.NOSE, 0] > side[:, sk.HEAD, 0]) == 1


def test_a_face_is_seen_from_the_front_an_ear_from_its_side(points):
    level = np.zeros(N)
    front = sk.face_in_sight(sk.view(points, level, level))
    back = sk.face_in_sight(sk.view(points, level + np.pi, level))
    to_the_right = sk.face_in_sight(sk.view(points, level + np.pi / 2, level))
    assert front[:, sk.NOSE].all()
    assert front[:, list(sk.EYE)].mean() > 0.95
    assert not back[:, [sk.NOSE, *sk.EYE]].any()
    assert to_the_right[:, sk.EAR[0]].all()
    assert to_the_right[:, sk.EAR[1]].mean() < 0.3
    assert front[:, 1:14].all()
    assert back[:, 1:14].all()


def test_men_are_taller_on_average(bodies):
    assert bodies.height[1::2].mean() - bodies.height[::2].mean() == pytest.approx(0.11, abs=0.02)
    assert bodies.height.min() > 1.3
    assert bodies.height.max() < 2.1
