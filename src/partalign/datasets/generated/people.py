"""People placed in pictures: where their points lie, and the outlines of trunk and legs.

Widths and lengths are in metres for a person 1.7 m tall. A body is an elliptic cylinder: its width depends on the yaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.canvas import F32, Stroke, stroke, surface
from partalign.datasets.generated.clothes import Wardrobe
from partalign.datasets.generated.draws import Table
from partalign.datasets.generated.skeleton import Bodies

Metres = float | np.ndarray  # one number for all, or one for each person


@dataclass
class People(Table):
    """One person for each picture, placed in it.

    points: (B, 26, 2) pixels. near: (B, 26) metres towards the camera. facing: (B,) yaw in radians. head: (B, 3) where
    the head faces. scale: (B, 2) pixels for a metre, across and down, of a person 1.7 m tall. folds: (B, 2) int, a
    place on the cloth texture.
    """

    points: np.ndarray
    near: np.ndarray
    facing: np.ndarray
    head: np.ndarray
    scale: np.ndarray
    folds: np.ndarray
    bodies: Bodies
    clothes: Wardrobe

    def __len__(self) -> int:
        return len(self.points)

    def at(self, point: int | np.ndarray, right: Metres = 0.0, down: Metres = 0.0) -> np.ndarray:
        """Pixels (B, 2) of a point (one number, or one for each person), moved by metres."""
        place = self.points[np.arange(len(self)), point]
        place[:, 0] += right * self.scale[:, 0]
        place[:, 1] += down * self.scale[:, 1]
        return place

    def girth(self, front: Metres, side: Metres) -> np.ndarray:
        """Half the width of a body whose half width is `front` seen from the front, `side` seen from the side."""
        across, deep = front * np.cos(self.facing), side * np.sin(self.facing)
        return np.sqrt(across * across + deep * deep)

    def around(self, angle: Metres) -> tuple[np.ndarray, np.ndarray]:
        """How far right and how near, -1 to 1, the body's surface is at an angle: 0 is its front, positive its left."""
        return np.sin(self.facing + angle), np.cos(self.facing + angle)

    def limb(
        self,
        start: np.ndarray,
        end: np.ndarray,
        w0: Metres,
        w1: Metres | None = None,
        *,
        bulge: Metres = 0.0,
        corner: Metres | None = None,
    ) -> Stroke:
        """A stroke between two places (B, 2) in pixels; half widths, bulge and corner in metres, as in `stroke`."""
        metre = self.scale[:, 0]
        w1 = w0 if w1 is None else w1
        return stroke(
            start, end, w0 * metre, w1 * metre, bulge=bulge * metre, corner=None if corner is None else corner * metre
        )

    def part(
        self,
        point: int | np.ndarray,
        start: tuple[Metres, Metres],
        end: tuple[Metres, Metres],
        w0: Metres,
        w1: Metres | None = None,
        *,
        corner: Metres | None = None,
    ) -> Stroke:
        """A stroke beside a point: `start` and `end` are metres to the right of it and below it."""
        return self.limb(self.at(point, *start), self.at(point, *end), w0, w1, corner=corner)

    def torso(self) -> Stroke:
        """The upper body's outline, with the coat if there is one."""
        b, c = self.bodies, self.clothes
        girth = 0.5 + 0.5 * b.girth
        shoulders = self.girth(0.158 * b.shoulders, 0.105 * girth)
        hips = self.girth(0.172 * b.hips * girth, 0.124 * girth) * (1.03 + 0.45 * c.coat)
        waist = np.where(c.feminine, -0.02, -0.002) * np.where(c.coat > 0, 0.3, 1.0)
        hem = np.where(c.flare > 0.5, 0.075, 0.0) + c.coat * 0.84
        start, end = self.at(sk.NECK, down=-0.035), self.at(sk.PELVIS, down=hem)
        return self.limb(start, end, shoulders, hips, bulge=waist, corner=0.045)

    def leg(self, side: np.ndarray) -> tuple[Stroke, Stroke]:
        """Thigh and shin of the leg on the given side (B,), 0 right, 1 left, with trousers if worn."""
        c, girth = self.clothes, np.sqrt(self.bodies.girth)
        loose = np.where(c.bottom <= wear.SHORTS, 0.012 + 0.012 * c.flare, 0.0)
        wide_hem = np.where(c.bottom == wear.TROUSERS, 0.008 + 0.02 * c.flare, 0.0)
        hip, knee, ankle = (self.at(np.array(pair)[side]) for pair in (sk.HIP, sk.KNEE, sk.ANKLE))
        thigh = self.limb(hip, knee, (0.076 + loose) * girth, (0.054 + loose) * girth)
        shin = self.limb(knee, ankle, (0.053 + wide_hem) * girth, (0.035 + 1.3 * wide_hem) * girth, bulge=0.007)
        return thigh, shin

    def arm_is_behind(self, side: np.ndarray) -> np.ndarray:
        """Whether the trunk hides the arm on the given side (B,) where they cross, (B,) bool."""
        rows = np.arange(len(self))
        elbow, wrist = np.array(sk.ELBOW)[side], np.array(sk.WRIST)[side]
        return (self.near[rows, elbow] + self.near[rows, wrist]) / 2 < self.near[:, sk.CHEST] - 0.01

    def cover(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which of the places x, y (B, N), in pixels, trunk or legs cover, (B, N) bool."""
        right = np.zeros(len(self), int)
        parts = (self.torso(), *self.leg(right), *self.leg(right + 1))
        return np.logical_or.reduce([inside(part, x, y) for part in parts])

    def hidden_by_own_body(self) -> np.ndarray:
        """Elbows and wrists behind the trunk, knees and ankles behind the other leg, (B, 18) bool."""
        x, y = self.points[:, :18, 0], self.points[:, :18, 1]
        hidden = np.zeros(x.shape, bool)
        torso = inside(self.torso(), x, y)
        for k in (0, 1):
            side = np.full(len(self), k)
            for joint in (sk.ELBOW[k], sk.WRIST[k]):
                hidden[:, joint] = torso[:, joint] & self.arm_is_behind(side)
            thigh, shin = self.leg(1 - side)
            other = inside(thigh, x, y) | inside(shin, x, y)
            for joint in (sk.KNEE[k], sk.ANKLE[k]):
                further = self.near[:, joint] < self.near[:, sk.KNEE[1 - k]] - 0.03
                hidden[:, joint] = other[:, joint] & further
        return hidden


def inside(strokes: Stroke, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of the places x, y (B, N), in pixels, lie on the strokes, (B, N) bool."""
    return surface(strokes, x.astype(F32), y.astype(F32)).cover > 0.5
