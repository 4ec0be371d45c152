"""Paint heads: hair, face, cap."""

from __future__ import annotations

import numpy as np

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.canvas import Canvas
from partalign.datasets.generated.people import People

RADIUS = 0.086
_FACE = 1.3  # radians to either side of where the head faces


def paint_head(canvas: Canvas, p: People) -> None:
    """Paint the head with its short hair; the face covers that part of it which the camera sees."""
    c = p.clothes
    shaved = c.hair_style == wear.SHAVED
    hair = np.where(shaved, 0.0, 0.012)
    skull = p.part(sk.HEAD, (0, -0.04), (0, 0.027), RADIUS + hair, RADIUS * 0.86 + hair * 0.6)
    canvas.draw(skull, np.where(shaved[:, None], c.skin * 0.9, c.hair))

    turn, tilt = np.arctan2(p.head[:, 0], p.head[:, 2]), p.head[:, 1] * 0.05
    low, high = (np.sin(np.clip(turn + side, -np.pi / 2, np.pi / 2)) for side in (-_FACE, _FACE))
    middle, half = (low + high) / 2 * RADIUS, (high - low) / 2
    brow = np.where(shaved, -0.06, -0.025) + tilt
    face = p.part(sk.HEAD, (middle * 0.95, brow), (middle, 0.058 + tilt), half * RADIUS * 0.95, half * RADIUS * 0.74)
    canvas.draw(face, c.skin, half > 0.12)
    canvas.draw(p.part(sk.NOSE, (0, -0.02), (0, 0), 0.017), c.skin * 0.97, p.head[:, 2] > -0.15)

    seen = (half > 0.3) & (p.head[:, 2] > 0)
    eyes = p.limb(p.at(sk.EYE[0]), p.at(sk.EYE[1]), np.where(c.glasses, 0.02, 0.011))
    canvas.draw(eyes, c.hair * 0.6, seen, opacity=np.where(c.glasses, 0.7, 0.4), shaded=False)
    mouth = p.part(sk.NOSE, (-0.012, 0.04), (0.012, 0.04), 0.008)
    canvas.draw(mouth, c.skin * [0.72, 0.5, 0.5], seen, opacity=0.6, shaded=False)
    _cap(canvas, p, turn)


def _cap(canvas: Canvas, p: People, turn: np.ndarray) -> None:
    c, aside, ahead = p.clothes, np.sin(turn), np.cos(turn)
    canvas.draw(p.part(sk.HEAD, (0, -0.105), (0, -0.03), RADIUS, RADIUS + 0.014, corner=0.05), c.cap, c.wears_cap)
    half = 0.06 * np.abs(ahead)
    peak = p.part(sk.HEAD, (0.03 * aside - half, -0.035), (0.15 * aside + half, -0.02), 0.014)
    canvas.draw(peak, c.cap * 0.8, c.wears_cap & (ahead > -0.2))


def paint_hair(canvas: Canvas, p: People, behind: bool) -> None:
    """Paint hair that falls below the head: behind the body of people who face the camera, over it otherwise."""
    c = p.clothes
    rows = (p.head[:, 2] < -0.1) != behind
    back = -p.head[:, 0]
    length = np.select([c.hair_style == wear.CHIN, c.hair_style == wear.LONG], [0.10, 0.27], 0.0)
    fall = p.part(sk.HEAD, (back * 0.02, -0.02), (back * 0.05, length), 0.092, 0.08)
    canvas.draw(fall, c.hair, rows & (length > 0), folds=p.folds)
    tail = p.part(sk.HEAD, (back * 0.09, -0.05), (back * 0.13, 0.17), 0.036, 0.022)
    canvas.draw(tail, c.hair, rows & (c.hair_style == wear.TAIL))
