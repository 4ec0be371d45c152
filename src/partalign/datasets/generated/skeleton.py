"""People as stick figures in three dimensions: their bodies, their poses, and how a camera sees their joints.

Lengths are in metres. A person's own axes: x to the person's left, y up from the ground, z the way the person faces.
Seen by a camera: x to the right of the picture, y down, z towards the camera; parallel projection.
Knows nothing of clothes or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated.draws import Draws, Table

NOSE, NECK, HEAD, TOP, CHEST, PELVIS = 0, 1, 18, 19, 20, 21
SHOULDER, ELBOW, WRIST = (2, 5), (3, 6), (4, 7)
HIP, KNEE, ANKLE = (8, 11), (9, 12), (10, 13)
EYE, EAR = (14, 15), (16, 17)
HAND, TOE = (22, 23), (24, 25)
POINTS = 26
"""A figure's points: OpenPose's 18 joints in its order, then the head's middle and top, the middle of chest and pelvis,
hands and toes. Of a pair, the right one comes first, as in OpenPose."""

_SIDES = ((0, -1.0), (1, 1.0))  # right: towards -x


@dataclass
class Bodies(Table):
    """Build of each person, (P,) float64: height in metres, the rest as ratios to an average build."""

    height: np.ndarray
    girth: np.ndarray
    shoulders: np.ndarray
    hips: np.ndarray
    legs: np.ndarray

    @classmethod
    def draw(cls, draws: Draws, feminine: np.ndarray) -> Bodies:
        """Draw bodies; `feminine` (P,) bool shifts the averages."""
        return cls(
            height=draws.normal("height", 1.0, 0.045) * np.where(feminine, 1.64, 1.75),
            girth=np.exp(draws.normal("girth", 0.0, 0.13)),
            shoulders=draws.normal("shoulders", 1.0, 0.05) * np.where(feminine, 0.90, 1.04),
            hips=draws.normal("hips", 1.0, 0.06) * np.where(feminine, 1.08, 0.97),
            legs=draws.normal("legs", 1.0, 0.03),
        )


@dataclass
class Angles(Table):
    """A pose: (B, 2) radians for the right and the left limb, (B,) for the rest. Forward and outward are positive."""

    thigh: np.ndarray
    knee: np.ndarray
    spread: np.ndarray
    arm: np.ndarray
    elbow: np.ndarray
    lift: np.ndarray
    inward: np.ndarray
    lean: np.ndarray
    sway: np.ndarray
    twist: np.ndarray
    head_turn: np.ndarray
    nod: np.ndarray


WALK, STAND, CARRY, PHONE, POCKETS, STRAP, FOLDED = range(7)
_POSES = (0.50, 0.16, 0.09, 0.08, 0.07, 0.06, 0.04)


def draw_angles(draws: Draws, loaded: np.ndarray | None = None) -> Angles:
    """Draw poses: a phase of the gait for the legs, and for the arms one of seven things to do.

    loaded: (B, 2) bool, arms, right and left, that hang down because they hold a bag.
    """
    pose = draws.choice("pose", _POSES)
    still = (pose == STAND) | (pose == FOLDED) | draws.chance("still", 0.12)
    stride = np.where(still, draws.uniform("stance", 0.0, 0.12), draws.uniform("stride", 0.2, 0.62))
    phase = draws.uniform("phase", 0.0, 2 * np.pi)
    swing = np.stack([np.sin(phase), -np.sin(phase)], 1)
    lifting = np.maximum(np.stack([np.cos(phase), -np.cos(phase)], 1), 0)
    lean = draws.normal("lean", 0.05, 0.06) + 0.1 * stride

    arm = -swing * (stride * draws.uniform("arm swing", 0.4, 1.15))[:, None] + draws.normal("arm", 0.0, 0.08, size=2)
    elbow = draws.uniform("elbow", 0.1, 0.45, size=2) + np.maximum(arm, 0) * 0.8
    lift = draws.uniform("lift", 0.08, 0.26, size=2)
    inward = draws.normal("inward", 0.05, 0.1, size=2)
    side = draws.order("busy side", 2) == 0  # (B, 2) bool: which arm is busy where only one is
    free = np.ones((len(draws), 2), bool) if loaded is None else ~loaded
    for busy, target in (
        ((pose == CARRY)[:, None], (0.25, 1.45, 0.15, 0.35)),
        ((pose == FOLDED)[:, None], (0.45, 1.75, 0.15, 1.05)),
        ((pose == PHONE)[:, None] & side, (0.65, 2.25, 0.35, 0.45)),
        ((pose == STRAP)[:, None] & side, (0.15, 2.3, 0.2, 0.15)),
        ((pose == POCKETS)[:, None], (-0.25, 0.85, 0.38, 0.65)),
        (draws.chance("raises", 0.04)[:, None] & side, (2.1, 0.6, 0.3, 0.1)),
    ):
        wobble = draws.normal("wobble", 0.0, 0.12, size=8).reshape(-1, 4, 2)
        arm, elbow, lift, inward = (
            np.where(busy & free, goal + wobble[:, k], old)
            for k, (goal, old) in enumerate(zip(target, (arm, elbow, lift, inward), strict=True))
        )
    return Angles(
        thigh=swing * stride[:, None] + 0.06 + draws.normal("thigh", 0.0, 0.04, size=2),
        knee=0.08 + lifting * (1.5 * stride)[:, None] + np.abs(draws.normal("knee", 0.0, 0.06, size=2)),
        spread=draws.uniform("spread", -0.02, 0.1, size=2) + np.where(still, 0.04, 0.0)[:, None],
        arm=np.where(free, arm, 0.4 * arm),
        elbow=np.where(free, np.clip(elbow, 0.02, 2.5), 0.15),
        lift=lift,
        inward=inward,
        lean=lean,
        sway=draws.normal("sway", 0.0, 0.035),
        twist=-0.28 * swing[:, 0] * stride + draws.normal("twist", 0.0, 0.06),
        head_turn=draws.normal("head turn", 0.0, 0.33),
        nod=draws.normal("nod", 0.1, 0.13) + np.where(pose == PHONE, 0.1, 0.0),
    )


def pose(bodies: Bodies, angles: Angles) -> np.ndarray:
    """Place the points of each figure in its own axes: (B, 26, 3) metres, the lower foot on the ground."""
    b, a, h = bodies, angles, bodies.height
    points = np.zeros((len(h), POINTS, 3))
    for k, side in _SIDES:
        points[:, HIP[k], 0] = side * 0.052 * h * b.hips
        thigh, shin = 0.245 * h * b.legs, 0.235 * h * b.legs
        points[:, KNEE[k]] = points[:, HIP[k]] + _down(thigh, a.thigh[:, k], side * a.spread[:, k])
        ankle_angle = a.thigh[:, k] - a.knee[:, k]
        points[:, ANKLE[k]] = points[:, KNEE[k]] + _down(shin, ankle_angle, side * a.spread[:, k] * 0.5)
        foot = _down(0.1 * h, np.pi / 2 - 0.35 + np.minimum(ankle_angle, 0.3) * 0.7, side * 0.18)
        points[:, TOE[k]] = points[:, ANKLE[k]] + foot
    _upper_body(points, bodies, angles)
    points[:, PELVIS] = (points[:, HIP[0]] + points[:, HIP[1]]) / 2
    sole = np.minimum(points[:, ANKLE, 1].min(axis=1), points[:, TOE, 1].min(axis=1) + 0.03 * h)
    points[:, :, 1] += (0.045 * h - sole)[:, None]
    return points


def _upper_body(points: np.ndarray, b: Bodies, a: Angles) -> None:
    h = b.height
    spine = -_down(h, a.lean, a.sway)  # from the pelvis upwards; leaning forward tilts it to +z
    spine[:, 2] *= -1
    points[:, NECK] = spine * (0.29 * (2 - b.legs))[:, None]
    points[:, CHEST] = points[:, NECK] * 0.62
    across = np.stack([np.cos(a.twist), np.zeros_like(h), -np.sin(a.twist)], 1) * (0.105 * h * b.shoulders)[:, None]
    for k, side in _SIDES:
        shoulder = points[:, NECK] + side * across
        shoulder[:, 1] -= 0.012 * h
        lift, inward = a.lift[:, k], a.inward[:, k]
        elbow = shoulder + _down(0.168 * h, a.arm[:, k] + 0.5 * a.lean, side * lift)
        bend = a.arm[:, k] + a.elbow[:, k]
        forearm = _down(0.145 * h, bend, side * (lift * np.cos(a.elbow[:, k]) - inward))
        points[:, SHOULDER[k]], points[:, ELBOW[k]], points[:, WRIST[k]] = shoulder, elbow, elbow + forearm
        points[:, HAND[k]] = elbow + forearm * 1.38
    _head(points, b, a, spine)


def _head(points: np.ndarray, b: Bodies, a: Angles, spine: np.ndarray) -> None:
    h = b.height
    ahead, left, up = _head_axes(a)
    points[:, HEAD] = points[:, NECK] + spine * 0.10 + ahead * (0.018 * h)[:, None]

    def place(x: float, y: float, z: float) -> np.ndarray:
        return points[:, HEAD] + (left * x + up * y + ahead * z) * h[:, None]

    points[:, TOP] = place(0, 0.072, -0.005)
    points[:, NOSE] = place(0, -0.012, 0.054)
    for k, side in _SIDES:
        points[:, EYE[k]] = place(side * 0.02, 0.006, 0.045)
        points[:, EAR[k]] = place(side * 0.044, -0.004, -0.004)


def _head_axes(a: Angles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (B, 3) ahead of, to the left of and above the head; turning to the left is positive."""
    turn, nod = a.twist * 0.3 + a.head_turn, a.nod
    ahead = np.stack([np.sin(turn) * np.cos(nod), -np.sin(nod), np.cos(turn) * np.cos(nod)], 1)
    left = np.stack([np.cos(turn), np.zeros_like(turn), -np.sin(turn)], 1)
    up = np.stack([np.sin(turn) * np.sin(nod), np.cos(nod), np.cos(turn) * np.sin(nod)], 1)
    return ahead, left, up


def _down(length: np.ndarray, forward: np.ndarray, left: np.ndarray | float) -> np.ndarray:
    """A limb (B, 3) of the given length that hangs down, swung forward and to the left by angles."""
    left = np.broadcast_to(left, np.shape(forward))
    direction = np.stack([np.sin(left), -np.cos(left) * np.cos(forward), np.cos(left) * np.sin(forward)], 1)
    return direction * np.broadcast_to(length, np.shape(forward))[:, None]


def view(points: np.ndarray, yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Turn points (B, N, 3) from the person's axes to the camera's, in metres.

    yaw (B,): 0 faces the camera, pi/2 faces right in the picture. pitch (B,): how far the camera looks down. Radians.
    """
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x = points[..., 0] * cos + points[..., 2] * sin
    near = points[..., 2] * cos - points[..., 0] * sin
    cos, sin = np.cos(pitch)[:, None], np.sin(pitch)[:, None]
    up = points[..., 1] * cos - near * sin
    return np.stack([x, -up, near * cos + points[..., 1] * sin], axis=-1)


def head_direction(seen: np.ndarray) -> np.ndarray:
    """Where the head faces, (B, 3) unit vectors in the camera's axes, from points seen by `view`."""
    ears = (seen[:, EAR[0]] + seen[:, EAR[1]]) / 2
    eyes = (seen[:, EYE[0]] + seen[:, EYE[1]]) / 2
    ahead = eyes - ears
    return ahead / np.sqrt((ahead * ahead).sum(axis=1, keepdims=True))


def face_in_sight(seen: np.ndarray) -> np.ndarray:
    """Which of the 18 joints the head does not hide by itself, (B, 18) bool: the face is not seen from behind."""
    ahead = head_direction(seen)[:, 2]
    left = seen[:, EAR[1]] - seen[:, EAR[0]]
    left = left[:, 2] / np.maximum(np.sqrt((left * left).sum(axis=1)), 1e-9)
    shown = np.ones((len(seen), 18), bool)
    shown[:, NOSE] = ahead > -0.15
    for k, side in _SIDES:
        shown[:, EYE[k]] = 0.9 * ahead + 0.43 * side * left > 0.2
        shown[:, EAR[k]] = side * left > -0.25
    return shown
