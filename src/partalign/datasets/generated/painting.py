"""Paint people in their clothes, from what is furthest to what is nearest; widths and lengths as in `people`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.bags import paint_backpack, paint_handbag, paint_shoulder_bag, paint_straps
from partalign.datasets.generated.canvas import F32, Canvas, Stroke, Surface
from partalign.datasets.generated.heads import paint_hair, paint_head
from partalign.datasets.generated.people import People

_SHADOW = np.zeros(3)


def paint_people(canvas: Canvas, people: People) -> None:
    """Paint one person on each picture."""
    p = people
    depth = [p.near[:, sk.KNEE[k]] + p.near[:, sk.ANKLE[k]] for k in (0, 1)]
    near_leg = (depth[1] > depth[0]).astype(int)
    near_arm = (p.near[:, sk.SHOULDER[1]] > p.near[:, sk.SHOULDER[0]]).astype(int)
    _shadow(canvas, p)
    paint_backpack(canvas, p, behind=True)
    paint_hair(canvas, p, behind=True)
    for arm in (1 - near_arm, near_arm):
        _arm(canvas, p, arm, p.arm_is_behind(arm))
    paint_shoulder_bag(canvas, p, behind=True)
    for leg in (1 - near_leg, near_leg):
        _leg(canvas, p, leg)
    _hips(canvas, p)
    _torso(canvas, p)
    paint_straps(canvas, p)
    paint_head(canvas, p)
    paint_hair(canvas, p, behind=False)
    paint_shoulder_bag(canvas, p, behind=False)
    paint_backpack(canvas, p, behind=False)
    for arm in (1 - near_arm, near_arm):
        _arm(canvas, p, arm, ~p.arm_is_behind(arm))


def _shadow(canvas: Canvas, p: People) -> None:
    feet = np.maximum(p.points[:, sk.ANKLE[0], 1], p.points[:, sk.ANKLE[1], 1])
    middle = np.stack([p.points[:, sk.PELVIS, 0], feet + 0.05 * p.scale[:, 1]], axis=1)
    away_from_light = canvas.light[:, 1:2] * np.array([-1.4, 0.1])
    spread = np.array([0.12, 0.0])
    blob = p.limb(middle - spread * p.scale, middle + (spread + away_from_light) * p.scale, 0.06)
    soft = canvas.pixels.shape[2] / 14
    canvas.draw(blob, np.broadcast_to(_SHADOW, (len(p), 3)), opacity=0.5, soft=soft, shaded=False)


def _leg(canvas: Canvas, p: People, side: np.ndarray) -> None:
    c = p.clothes
    thigh, shin = p.leg(side)
    ankle, toe = p.at(np.array(sk.ANKLE)[side], down=0.01), p.at(np.array(sk.TOE)[side])
    canvas.draw(p.limb(ankle, toe, 0.045, 0.036), c.shoes)
    cloth = c.colors[:, wear.LEGS]
    canvas.draw(shin, np.where((c.bottom == wear.TROUSERS)[:, None], cloth, c.skin), folds=p.folds)
    bare_from = np.select([c.bottom == wear.TROUSERS, c.bottom == wear.SHORTS], [2.0, c.hem / 0.52], 0.0)
    canvas.draw(thigh, cloth, second=c.skin, pattern=_beyond(bare_from, thigh), folds=p.folds)


def _hips(canvas: Canvas, p: People) -> None:
    b, c = p.bodies, p.clothes
    girth = 0.5 + 0.5 * b.girth
    width = p.girth(0.15 * b.hips * girth, 0.112 * girth)
    cloth = c.colors[:, wear.LEGS]
    canvas.draw(p.part(sk.PELVIS, (0, -0.08), (0, 0.09), width * 0.95, width, corner=0.05), cloth, folds=p.folds)

    # a skirt falls from the hips towards the knees, wide enough for both legs
    fall = c.hem * b.legs * 2  # 1 at the knees
    right, left = p.at(sk.KNEE[0]), p.at(sk.KNEE[1])
    hem = p.at(sk.PELVIS) + ((right + left) / 2 - p.at(sk.PELVIS)) * fall[:, None]
    stride = np.abs(right - left)[:, 0] / 2 / p.scale[:, 0] * np.minimum(fall, 1.25)
    wide = np.maximum(width * (1.0 + 0.55 * c.flare), stride + 0.085)
    skirt = p.limb(p.at(sk.PELVIS, down=-0.09), hem, width * 0.9, wide, corner=0.02)
    canvas.draw(skirt, cloth, c.bottom >= wear.SKIRT, folds=p.folds)


def _torso(canvas: Canvas, p: People) -> None:
    c = p.clothes
    upper, second = c.colors[:, wear.UPPER], c.colors[:, wear.SECOND]
    right, left = (0.7 * p.at(side, down=0.02) + 0.3 * p.at(sk.NECK, down=0.015) for side in sk.SHOULDER)
    canvas.draw(p.limb(right, left, 0.06), upper)
    canvas.draw(p.torso(), upper, second=second, pattern=_cloth_pattern(p), folds=p.folds)
    canvas.draw(p.limb(p.at(sk.NECK, down=-0.02), p.at(sk.HEAD, down=0.02), 0.056, 0.05), c.skin * 0.93)


def _arm(canvas: Canvas, p: People, side: np.ndarray, rows: np.ndarray) -> None:
    c, girth = p.clothes, np.sqrt(p.bodies.girth)
    hand = np.array(sk.HAND)[side]
    shoulder = p.at(np.array(sk.SHOULDER)[side], down=0.03)
    elbow, wrist = p.at(np.array(sk.ELBOW)[side]), p.at(np.array(sk.WRIST)[side])
    paint_handbag(canvas, p, hand, rows & (c.bag_side == side))
    canvas.draw(p.limb(wrist, p.at(hand), 0.036), c.skin, rows)

    cloth, long = c.colors[:, wear.SLEEVES], c.sleeve == 1
    loose = np.where(long, 0.01, 0.004)
    upper = p.limb(shoulder, elbow, (0.058 + loose) * girth, (0.044 + loose) * girth)
    lower = p.limb(elbow, wrist, (0.042 + loose) * girth, (0.031 + loose) * girth)
    bare_lower, bare_upper = np.where(long, 2.0, -1.0), np.where(long, 2.0, c.sleeve / 0.5)
    canvas.draw(lower, cloth, rows, second=c.skin, pattern=_beyond(bare_lower, lower), folds=p.folds)
    canvas.draw(upper, cloth, rows, second=c.skin, pattern=_beyond(bare_upper, upper), folds=p.folds)


Pattern = Callable[[Surface, np.ndarray], np.ndarray]


def _beyond(share: np.ndarray, strokes: Stroke) -> Pattern:
    """The second colour beyond a share (B,) of a stroke's length."""
    length = np.maximum(np.hypot(strokes.x1 - strokes.x0, strokes.y1 - strokes.y0), 1).astype(F32)
    share = share.astype(F32)

    def beyond(on: Surface, rows: np.ndarray) -> np.ndarray:
        return np.clip((on.t - share[rows, None, None]) * length[rows, None, None] + F32(0.5), 0, 1)

    return beyond


def _cloth_pattern(p: People) -> Pattern:
    """The second colour of upper bodies: stripes, bars, both, a print, under an open jacket, or the lower half."""
    kind, period = p.clothes.pattern, p.clothes.period

    def setting(default: float, **of: float) -> np.ndarray:
        names = {"stripes": wear.STRIPES, "bars": wear.BARS, "checks": wear.CHECKS, "printed": wear.PRINT}
        names |= {"open": wear.OPEN, "halves": wear.HALVES}
        return np.select([kind == names[name] for name in of], list(of.values()), default).astype(F32)[:, None, None]

    around, down = setting(0, stripes=1, checks=0.5), setting(0, bars=1, checks=0.5)
    window = setting(0, printed=1, open=1, halves=1)
    half_angle, top, bottom = (
        setting(9, printed=0.62, open=0.4),
        setting(-1, printed=0.2, halves=0.5),
        setting(9, printed=0.55),
    )
    frequency = (0.5 / period).astype(F32)[:, None, None]  # a torso is about half a metre long
    sharp = np.maximum(period * p.scale[:, 0] * 0.5, 1.0).astype(F32)[:, None, None]
    facing = p.facing.astype(F32)[:, None, None]

    def share(on: Surface, rows: np.ndarray) -> np.ndarray:
        angle = on.u * (1 + F32(0.4) * on.u * on.u) - facing[rows]  # about arcsin u
        angle -= F32(2 * np.pi) * np.round(angle * F32(0.5 / np.pi))
        mask = _waves(on.t * frequency[rows], sharp[rows]) * around[rows]
        mask += _waves(angle * frequency[rows] * F32(0.36), sharp[rows]) * down[rows]
        sides = (half_angle[rows] - np.abs(angle)) * F32(5)
        ends = np.minimum(on.t - top[rows], bottom[rows] - on.t) * F32(25)
        mask += np.clip(np.minimum(sides, ends) + F32(0.5), 0, 1) * window[rows]
        return mask

    return share


def _waves(x: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """Stripes of period 1, from 0 to 1 with soft edges."""
    distance = np.abs(x - np.round(x))
    return np.clip((F32(0.25) - distance) * (4 * sharp) + F32(0.5), 0, 1)
