"""A batch of pictures on which soft-edged strokes are painted, all pictures at once.

One primitive does for limbs, torsos, heads, skirts, bags and posts: a straight stroke with its own width at each end, a
bulge between them and rounded or square corners, lit as a cylinder. Each stroke is painted in the smallest tile that
holds it in every picture; a pixel's value does not depend on the tile, so neither on what else is in the batch.
Knows nothing of people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated.draws import Table

F32 = np.float32
_BLOCK = 24_000  # pixels to work on at a time: they and what is computed for them stay in a core's cache


@dataclass
class Stroke(Table):
    """Straight strokes, one a row: (B,) float32 each, in pixels (the middle of the first pixel is 0, 0).

    A stroke runs from (x0, y0) to (x1, y1); half its width is w0 at the start, w1 at the end, `bulge` more half-way.
    `corner` is the radius of its corners: 0 ends it square, half its width makes a capsule; it never passes its ends.
    """

    x0: np.ndarray
    y0: np.ndarray
    x1: np.ndarray
    y1: np.ndarray
    w0: np.ndarray
    w1: np.ndarray
    bulge: np.ndarray
    corner: np.ndarray


def stroke(
    start: np.ndarray,
    end: np.ndarray,
    w0: float | np.ndarray,
    w1: float | np.ndarray | None = None,
    *,
    bulge: float | np.ndarray = 0.0,
    corner: float | np.ndarray | None = None,
) -> Stroke:
    """Make strokes from `start` to `end`, (B, 2) arrays; widths are numbers or (B,); see `Stroke`.

    Without `corner` it is a capsule whose round ends reach past start and end, as a limb does past its joints.
    """
    w1 = w0 if w1 is None else w1
    radius = np.minimum(w0, w1) if corner is None else corner
    if corner is None:
        dx, dy, _ = _direction(end[:, 0] - start[:, 0], end[:, 1] - start[:, 1])
        reach = np.stack([dx * radius, dy * radius], axis=1)
        start, end = start - reach, end + reach
    columns = (start[:, 0], start[:, 1], end[:, 0], end[:, 1], w0, w1, bulge, radius)
    return Stroke(*(_column(c, len(start)) for c in columns))


def _column(values: float | np.ndarray, rows: int) -> np.ndarray:
    return values.astype(F32) if isinstance(values, np.ndarray) and values.ndim else np.full(rows, values, F32)


def _direction(dx: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vector and length; downwards where there is next to no length, as of an arm that points at the camera."""
    length = np.sqrt(dx * dx + dy * dy)
    short = length < 1e-3
    length = np.where(short, length.dtype.type(1e-3), length)
    return (
        np.where(short, length.dtype.type(0), dx / length),
        np.where(short, length.dtype.type(1), dy / length),
        length,
    )


@dataclass
class Surface:
    """Where each pixel of a tile lies on its stroke: what a pattern is computed from. (B, h, w) float32.

    t: 0 at the start, 1 at the end. u: -1 at one edge, 1 at the other; for a stroke that runs downwards from left to
    right. cover: how much of the pixel the stroke covers, 0 to 1.
    """

    t: np.ndarray
    u: np.ndarray
    cover: np.ndarray


def surface(strokes: Stroke, x: np.ndarray, y: np.ndarray, soft: float = 1.0) -> Surface:
    """Measure the strokes at places x, y, which broadcast to (B, ...); `soft` is the width of their edges in pixels."""
    shape = (-1,) + (1,) * (max(x.ndim, y.ndim) - 1)
    x0, y0, x1, y1, w0, w1, bulge, corner = (c.reshape(shape) for c in vars(strokes).values())
    dx, dy, length = _direction(x1 - x0, y1 - y0)
    x, y = x - x0, y - y0
    along = x * dx + y * dy
    across = x * dy - y * dx
    t = along / length
    np.clip(t, 0, 1, out=t)
    half = t * (w1 - w0) + w0
    if bulge.any():
        half += t * (1 - t) * (4 * bulge)
    np.maximum(half, F32(0.05), out=half)
    # Distance to a box with rounded corners, whose half width changes along the stroke. It is 0 inside, so corners are
    # round by half a pixel at least: else the inside would count as an edge.
    corner = np.maximum(corner, F32(0.5))
    side = np.abs(across)
    side -= half
    side += corner
    np.maximum(side, 0, out=side)
    along -= length / 2
    np.abs(along, out=along)
    along -= length / 2 - corner
    np.maximum(along, 0, out=along)
    side *= side
    along *= along
    side += along
    cover = np.sqrt(side, out=side)
    np.subtract(corner + F32(0.5 * soft), cover, out=cover)
    if soft != 1:
        cover *= F32(1 / soft)
    np.clip(cover, 0, 1, out=cover)
    across /= half
    np.clip(across, -1, 1, out=across)
    return Surface(t, across, cover)


class Canvas:
    """Pictures in the making: `pixels` is (B, 3, H, W) float32, 0 to 1.

    light: (B, 4) float: ambient light, and the light from the right, from below and from the camera.
    cloth: (2H, 2W) float32 texture of folds, about -1 to 1.
    """

    def __init__(self, pixels: np.ndarray, light: np.ndarray, cloth: np.ndarray):
        self.pixels = np.ascontiguousarray(pixels, F32)
        self.light = np.asarray(light, F32)
        self.cloth = cloth

    def draw(
        self,
        strokes: Stroke,
        color: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        second: np.ndarray | None = None,
        pattern: Callable[[Surface, np.ndarray], np.ndarray] | None = None,
        folds: np.ndarray | None = None,
        opacity: float | np.ndarray = 1.0,
        soft: float = 1.0,
        shaded: bool = True,
    ) -> None:
        """Paint one stroke on each picture, or on those of `rows` (B,) bool; all arrays have a row for each picture.

        color, second: (B, 3), 0 to 1. pattern(surface, rows) -> (b, h, w) says how much of `second` each pixel shows.
        folds: (B, 2) int, where on the cloth texture to look; none without it.
        """
        wanted = np.arange(len(self.pixels)) if rows is None else np.flatnonzero(rows)
        for chosen, tile in self._blocks(strokes.take(wanted), wanted, soft):
            lines = strokes.take(chosen)
            on = surface(lines, *tile.places(), soft)
            paint = color[chosen].astype(F32)[:, :, None, None]
            if pattern is not None and second is not None:
                change = second[chosen].astype(F32)[:, :, None, None] - paint
                paint = pattern(on, chosen)[:, None] * change + paint
            if shaded:
                shade = self._shade(lines, on, chosen)
                if folds is not None:
                    shade += tile.cut(self.cloth, folds[chosen]) * F32(0.07)
                paint = paint * shade[:, None]
            if isinstance(opacity, np.ndarray):
                on.cover *= opacity.astype(F32)[chosen, None, None]
            elif opacity != 1:
                on.cover *= F32(opacity)
            view = windows(self.pixels, tile.height, tile.width)
            below = view[chosen, :, tile.top, tile.left]
            paint = paint - below
            paint *= on.cover[:, None]
            below += paint
            view[chosen, :, tile.top, tile.left] = below

    def _blocks(self, s: Stroke, rows: np.ndarray, soft: float) -> Iterator[tuple[np.ndarray, Tile]]:
        """Split rows into blocks that fit a core's cache, each with the smallest tile that holds all its strokes."""
        h, w = self.pixels.shape[2:]
        reach = np.maximum(s.w0, s.w1) + np.maximum(s.bulge, 0) + soft
        left = np.clip(np.floor(np.minimum(s.x0, s.x1) - reach), 0, w).astype(int)
        right = np.clip(np.ceil(np.maximum(s.x0, s.x1) + reach) + 1, 0, w).astype(int)
        top = np.clip(np.floor(np.minimum(s.y0, s.y1) - reach), 0, h).astype(int)
        bottom = np.clip(np.ceil(np.maximum(s.y0, s.y1) + reach) + 1, 0, h).astype(int)
        area = (right - left) * (bottom - top)
        order = np.argsort(area)
        order = order[area[order] > 0]
        while len(order):
            fits = max(1, _BLOCK // int(area[order[-1]]))
            block, order = order[-fits:], order[:-fits]
            width, height = int((right - left)[block].max()), int((bottom - top)[block].max())
            yield (
                rows[block],
                Tile(np.minimum(left[block], w - width), np.minimum(top[block], h - height), width, height),
            )

    def _shade(self, s: Stroke, on: Surface, rows: np.ndarray) -> np.ndarray:
        """Light on a cylinder: its surface turns from left to right across the stroke."""
        dx, dy, _ = _direction(s.x1 - s.x0, s.y1 - s.y0)
        ambient, from_right, from_below, from_camera = self.light[rows].T
        sideways = from_right * dy - from_below * dx
        shade = on.u * on.u
        np.subtract(1, shade, out=shade)
        np.sqrt(shade, out=shade)
        shade *= from_camera[:, None, None]
        shade += on.u * sideways[:, None, None]
        shade += ambient[:, None, None]
        return shade


@dataclass
class Tile:
    """A window of one size in each of b pictures, at left and top (b,)."""

    left: np.ndarray
    top: np.ndarray
    width: int
    height: int

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """The pixels' x (b, 1, width) and y (b, height, 1)."""
        x = (self.left[:, None] + np.arange(self.width)).astype(F32)
        y = (self.top[:, None] + np.arange(self.height)).astype(F32)
        return x[:, None, :], y[:, :, None]

    def cut(self, texture: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """The same windows of a texture (h, w), moved by (b, 2) int: (b, height, width)."""
        return windows(texture, self.height, self.width)[self.top + moved[:, 1], self.left + moved[:, 0]]


def windows(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """All windows of the last two axes, as a writeable view.

    (..., H, W) -> (..., H - height + 1, W - width + 1, height, width).
    """
    *outer, h, w = pixels.shape
    return np.lib.stride_tricks.as_strided(
        pixels,
        (*outer, h - height + 1, w - width + 1, height, width),
        pixels.strides + pixels.strides[-2:],
    )
