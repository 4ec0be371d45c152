"""Paint what people carry; a bag stays on its side of the body, wherever the camera stands."""

from __future__ import annotations

import numpy as np

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.canvas import Canvas
from partalign.datasets.generated.people import People


def paint_handbag(canvas: Canvas, p: People, hand: np.ndarray, rows: np.ndarray) -> None:
    """Paint bags held in a hand, (B,) the number of its point, in those pictures of `rows` (B,) bool that have one."""
    c = p.clothes
    size, color, rows = c.bag_size, c.colors[:, wear.SECOND], rows & (c.bag == wear.HANDBAG)
    top, bottom = p.girth(0.07, 0.15) * size, p.girth(0.09, 0.17) * size
    canvas.draw(p.part(hand, (0, 0), (0, 0.1), 0.012), color * 0.7, rows)
    canvas.draw(p.part(hand, (0, 0.08), (0, 0.08 + 0.26 * size), top, bottom, corner=0.03), color, rows)


def paint_backpack(canvas: Canvas, p: People, behind: bool) -> None:
    """Paint backpacks where the body is before them, or else those that are before the body."""
    c = p.clothes
    right, near = p.around(np.pi)
    rows = (c.bag == wear.BACKPACK) & ((near < 0) == behind)
    size, color, right = c.bag_size, c.colors[:, wear.SECOND], right * 0.17
    width = p.girth(0.155, 0.1) * np.sqrt(size)
    bottom = (right, 0.03 + 0.4 * size)
    canvas.draw(p.part(sk.NECK, (right, 0.03), bottom, width * 0.92, width, corner=0.06), color, rows, folds=p.folds)
    pocket = p.part(sk.NECK, (right, 0.25 * size), (right, 0.01 + 0.4 * size), width * 0.75, corner=0.03)
    canvas.draw(pocket, color * 0.82, rows & (near > 0.4))


def paint_straps(canvas: Canvas, p: People) -> None:
    """Paint a backpack's two straps over the chest."""
    c = p.clothes
    width = p.girth(0.172 * p.bodies.shoulders, 0.105)
    for side in (-1, 1):
        right, near = p.around(side * 0.62)
        x = right * width
        strap = p.part(sk.NECK, (x * 0.9, -0.02), (x * 1.15, 0.3), 0.022)
        canvas.draw(strap, c.colors[:, wear.SECOND] * 0.85, (c.bag == wear.BACKPACK) & (near > 0.1))


def paint_shoulder_bag(canvas: Canvas, p: People, behind: bool) -> None:
    """Paint bags at the hip: behind the body, or else those before it and all straps, from the other shoulder."""
    c = p.clothes
    size, color, worn = c.bag_size, c.colors[:, wear.SECOND], c.bag == wear.SHOULDER_BAG
    right, near = p.around(np.where(c.bag_side == 1, 1.0, -1.0) * np.pi / 2)
    right = right * 0.17
    if not behind:
        shoulder = 0.8 * p.at(np.array(sk.SHOULDER)[1 - c.bag_side], down=-0.03) + 0.2 * p.at(sk.NECK)
        canvas.draw(p.limb(shoulder, p.at(sk.PELVIS, right=right), 0.016), color * 0.8, worn)
    top, bottom = p.girth(0.07, 0.15) * size, p.girth(0.08, 0.16) * size
    bag = p.part(sk.PELVIS, (right, -0.06 * size), (right, 0.18 * size), top, bottom, corner=0.03)
    canvas.draw(bag, color, worn & ((near < 0) == behind))
