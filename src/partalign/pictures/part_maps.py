"""What the part stream sees: joints as a skeleton, heat maps, and local descriptors as colours (Figs. 4 and 7).

Takes pictures and plain arrays, returns pictures; knows no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from partalign.datasets.keypoints import JOINTS, LIMBS
from partalign.errors import ShapeError
from partalign.pictures.theme import LIGHT, SCALE, Theme, enlarge, write

HEIGHT = 168 * SCALE
"""Height of a drawn crop in pixels."""

# The person's own right and left side. Joints are named "RKnee", "LKnee"; a limb has the side of its outer joint.
_MIDDLE, _SIDES = "#ffe08a", {"R": "#ff7a1a", "L": "#39b1ff"}
_COLOURS = tuple(_SIDES.get(name[0], _MIDDLE) for name in JOINTS)
# OpenPose's limbs from shoulder to ear are maps to reason with, not bones: they are not drawn.
_BONES = tuple((a, b) for a, b in LIMBS if (JOINTS[a][1:], JOINTS[b][1:]) != ("Shoulder", "Ear"))

# From no response to the strongest; brightness rises all the way, so that it also reads in grey.
_HEAT = np.array([(18, 10, 60), (120, 28, 109), (205, 64, 72), (249, 142, 48), (252, 255, 164)], np.float64)


def draw_skeleton(crop: Image.Image, joints: np.ndarray, *, height: int = HEIGHT) -> Image.Image:
    """Draw OpenPose's joints over a crop: the person's right side orange, the left side blue, the middle yellow.

    joints: (18, 3) as in `PoseExamples`: x, y as fractions of the crop's width and height, and 1 where the joint is
    known. The others are left out together with their limbs. Returns the crop enlarged to `height` pixels.
    Raises ShapeError.
    """
    joints = np.asarray(joints, np.float64)
    if joints.shape != (len(JOINTS), 3):
        raise ShapeError(f"expected joints of shape (18, 3): x, y and 1 where known, found {joints.shape}")
    picture = enlarge(crop, height)
    places = {j: (x * picture.width, y * height) for j, (x, y, known) in enumerate(joints.tolist()) if known > 0}
    bones = [(a, b) for a, b in _BONES if a in places and b in places]
    draw = ImageDraw.Draw(picture)
    thick = max(1.0, height / 84)
    # A dark rim under everything first: bright limbs then stand out on light clothes too.
    for rim, colours in ((thick * 0.5, ("#101010",) * len(JOINTS)), (0.0, _COLOURS)):
        for a, b in bones:
            draw.line((*places[a], *places[b]), fill=colours[b], width=round(thick + 2 * rim))
        for j, place in places.items():
            draw.circle(place, thick * 1.1 + rim, fill=colours[j])
    return picture


def joint_heat(joint_maps: np.ndarray) -> np.ndarray:
    """Return the strongest response of any joint at each place.

    joint_maps: (C, H, W); the last channel, the background (OpenPose: C = 19), is left out. Returns (H, W) in 0..1.
    """
    maps = _three_dimensional(joint_maps)
    if len(maps) < 2:
        raise ShapeError(f"expected joint maps (C, H, W) with the background as last channel, found {maps.shape}")
    return np.clip(maps[:-1].max(axis=0), 0, 1)


def limb_heat(limb_maps: np.ndarray) -> np.ndarray:
    """Return the length of the longest limb vector at each place.

    limb_maps: (2 L, H, W), x and y of each limb's field in turn (OpenPose: 38 channels). Returns (H, W) in 0..1.
    """
    maps = _three_dimensional(limb_maps)
    if len(maps) % 2 or not len(maps):
        raise ShapeError(f"expected limb maps (2 L, H, W), x and y of each limb in turn, found {maps.shape}")
    return np.clip(np.hypot(maps[0::2], maps[1::2]).max(axis=0), 0, 1)


def joint_parts(joint_maps: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Return the part descriptors that predefined joints give: 1 for the joint that a place lies on, else 0 (Fig. 5).

    joint_maps: (N, J + 1, H, W), about 1 at a joint, the background last. A place lies on the joint whose map is
    highest there, as long as that reaches `threshold`. Returns (N, J, H, W) float32; all 0 where no joint is.
    Raises ShapeError.
    """
    maps = np.asarray(joint_maps)
    if maps.ndim != 4 or maps.shape[1] < 2:
        raise ShapeError(f"expected joint maps (N, J + 1, H, W) with the background last, found {maps.shape}")
    joints = maps[:, :-1]
    nearest = joints.argmax(axis=1)[:, None] == np.arange(joints.shape[1])[:, None, None]
    return (nearest & (joints >= threshold)).astype(np.float32)


def draw_heat(crop: Image.Image, heat: np.ndarray, *, height: int = HEIGHT) -> Image.Image:
    """Lay a heat map over the crop, which turns grey and darker so that colour means heat only.

    heat: (H, W) in 0..1, of any size: it is upsampled smoothly. Returns RGB of `height` pixels. Raises ShapeError.
    """
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ShapeError(f"expected a heat map (H, W), found {heat.shape}")
    ground = enlarge(crop, height)
    grey = np.asarray(ground.convert("L"), np.float64)[..., None] * 0.6
    smooth = Image.fromarray(np.nan_to_num(heat)).resize(ground.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth, np.float64), 0, 1)
    steps = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(strength, steps, channel) for channel in _HEAT.T], axis=-1)
    cover = np.clip(strength * 1.6, 0, 0.85)[..., None]
    return Image.fromarray(np.rint(grey * (1 - cover) + colour * cover).astype(np.uint8))


@dataclass(frozen=True)
class MapColours:
    """One projection of local descriptors to RGB: the same colour means a similar descriptor, in whatever picture.

    mean: (C,); axes: (3, C) principal axes, strongest first; spread: (3,) standard deviation along each axis.
    """

    mean: np.ndarray
    axes: np.ndarray
    spread: np.ndarray

    def paint(self, maps: np.ndarray, size: tuple[int, int]) -> list[Image.Image]:
        """Turn maps (N, C, H, W) into N pictures of `size` (width, height), upsampled smoothly. Raises ShapeError."""
        maps = np.asarray(maps)
        if maps.ndim != 4 or maps.shape[1] != len(self.mean):
            raise ShapeError(f"expected maps (N, {len(self.mean)}, H, W) like those fitted, found {maps.shape}")
        scores = (_unit_rows(maps) - self.mean) @ self.axes.T / self.spread
        colours = np.clip(0.5 + scores @ _RGB_AXES * (0.5 * np.sqrt(3) / _REACH), 0, 1)
        pixels = np.rint(255 * colours).astype(np.uint8).reshape(len(maps), *maps.shape[2:], 3)
        return [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in pixels]


# Principal components of RGB (footnote 3 of the paper, after SIFT Flow): brightness, red-green, yellow-blue.
_RGB_AXES = np.array([(1, 1, 1), (1, -1, 0), (1, 1, -2)]) / np.sqrt([[3], [2], [6]])
# Standard deviations from middle grey to white; rarer descriptors are clipped.
_REACH = 3.5


def fit_map_colours(batches: Iterable[np.ndarray]) -> MapColours:
    """Fit ONE projection to all pictures (Figs. 4 and 7, appendix A.1): PCA of the unit-length local descriptors.

    batches: maps (N, C, H, W), all with the same C; they are read once, and how they are split does not matter.
    Fit appearance and part maps separately. Raises ShapeError where there is nothing to fit or C differs.
    """
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for maps in batches:
        maps = np.asarray(maps)
        if maps.ndim != 4 or (count and maps.shape[1] != len(total)):
            raise ShapeError(f"expected maps (N, C, H, W) with one C for all batches, found {maps.shape}")
        rows = _unit_rows(maps)
        if not count:
            total, products = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        count, total, products = count + len(rows), total + rows.sum(axis=0), products + rows.T @ rows
    if not count or len(total) < 3:
        raise ShapeError(f"expected maps of at least 3 channels, found {count} places of {len(total)} channels")
    mean = total / count
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes = vectors[:, :-4:-1].T
    # An axis and its opposite are the same component: its largest entry is made positive, so that colours repeat.
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    # A component without spread (constant maps) stays middle grey instead of showing rounding noise.
    spread = np.sqrt(np.maximum(variances[:-4:-1], 0))
    return MapColours(mean, axes, np.where(spread > 1e-6, spread, np.inf))


def draw_panels(panels: Mapping[str, Image.Image], *, height: int = HEIGHT, theme: Theme = LIGHT) -> Image.Image:
    """Put pictures of one person side by side, each under its name: input, joints, appearance, parts (as in Fig. 4)."""
    if not panels:
        raise ShapeError("expected at least one panel, found none")
    pictures = [enlarge(p, height) for p in panels.values()]
    gap, head = 6 * SCALE, 20 * SCALE
    sheet = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, head + height), theme.paper)
    draw, left = ImageDraw.Draw(sheet), 0
    for name, picture in zip(panels, pictures, strict=True):
        middle = left + picture.width // 2
        write(draw, (middle, head - 6 * SCALE), name, picture.width + gap // 2, 12 * SCALE, theme.muted, "ms")
        sheet.paste(picture, (left, head))
        left += picture.width + gap
    return sheet


def _unit_rows(maps: np.ndarray) -> np.ndarray:
    rows = np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def _three_dimensional(maps: np.ndarray) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3:
        raise ShapeError(f"expected maps of one picture (C, H, W), found {maps.shape}")
    return maps
