"""Cameras: where they stand, how a detector frames people in them, and what their lenses and sensors do to a picture.

Knows nothing of bodies or clothes: people come in as points, pictures as arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated.canvas import F32, windows
from partalign.datasets.generated.draws import Draws, Table
from partalign.datasets.generated.scenes import draw_scene, smooth_noise

_IN_CACHE = 4  # pictures to finish at a time: all their pixels stay in a core's cache
LOW_RESOLUTION = 5
"""The sixth camera (and every sixth after it) records at half the resolution."""


@dataclass
class Cameras(Table):
    """One row for each camera: angles in radians, gain (C, 3) a factor for each colour, light (C, 4) as in `Canvas`.

    axis: the yaw of people who walk towards one end of the street. contrast: how much mid-tones are lifted, in place of
    gamma. blur: the share of each neighbour in a pixel. noise: its sigma, 1 being white. halved: half the resolution.
    """

    axis: np.ndarray
    pitch: np.ndarray
    gain: np.ndarray
    contrast: np.ndarray
    light: np.ndarray
    blur: np.ndarray
    noise: np.ndarray
    halved: np.ndarray

    @classmethod
    def draw(cls, seed: int, count: int) -> Cameras:
        """Draw `count` cameras; a camera does not depend on how many there are."""
        draws = Draws(seed, "camera", np.arange(count))
        sun = draws.uniform("sun", -1.0, 1.0)
        strength = draws.uniform("sun strength", 0.05, 0.22)
        light = (0.62 - 0.5 * strength, strength * sun, -0.05 - 0.1 * strength, np.full(count, 0.4))
        return cls(
            axis=draws.uniform("axis", 0.0, 2 * np.pi),
            pitch=draws.uniform("pitch", 0.08, 0.42),
            # mostly warmer or cooler, a little greener: as white balance goes wrong
            gain=np.exp(
                draws.normal("warmth", 0.0, 0.10)[:, None] * [1, 0, -1] + draws.normal("gain", 0.0, 0.035, size=3)
            ),
            contrast=draws.uniform("contrast", -0.18, 0.3),
            light=np.stack(light, 1),
            blur=draws.uniform("blur", 0.02, 0.16),
            noise=draws.uniform("noise", 0.006, 0.022),
            halved=np.arange(count) % 6 == LOW_RESOLUTION,
        )


def draw_scenes(seed: int, count: int, height: int, width: int) -> np.ndarray:
    """Draw each camera's background: (count, 3, 2.4 height, 8 width) float32, its ground from row `horizon(height)`."""
    scenes = []
    for camera in range(count):
        random = np.random.Generator(np.random.Philox(key=(seed, camera)))
        scenes.append(draw_scene(random, round(0.85 * height), horizon(height), round(2.4 * height), 8 * width))
    return np.stack(scenes)


def horizon(height: int) -> int:
    """Row of a scene at which its ground starts, for crops of `height` pixels."""
    return round(1.1 * height)


def draw_textures(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw folds of cloth, (2 height, 2 width), and a sensor's noise, (3 height, 3 width); float32, sigma 1."""
    random = np.random.Generator(np.random.Philox(key=(seed, 1 << 32)))
    creases = smooth_noise(random, 2 * height, 2 * width, 1.0, height / 40, stretch=2.2)
    return np.clip(creases, -2, 2), random.standard_normal((3 * height, 3 * width), F32)


@dataclass
class Framing(Table):
    """How metres become pixels of a crop: pixel = metres * scale + shift, (B, 2) for x and y."""

    scale: np.ndarray
    shift: np.ndarray

    def pixels(self, seen: np.ndarray) -> np.ndarray:
        """Places (B, N, 2) in the crop of points (B, N, 3) as `skeleton.view` gives them."""
        return seen[..., :2] * self.scale[:, None] + self.shift[:, None]


def frame(draws: Draws, seen: np.ndarray, height: int, width: int, misalignment: float) -> Framing:
    """Frame each person, whose points (B, N, 3) are seen, as a person detector does.

    At misalignment 0 the box is tight and centred. At 1: size exp(U(-.28, .22)), shift up to 20% of the width and 13%
    of the height, aspect 12%, and 30% of the boxes cut off feet or head.
    """
    m = misalignment
    low, high = seen[..., :2].min(axis=1), seen[..., :2].max(axis=1)
    tall, wide = high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]
    scale = 0.90 * height / tall * np.exp(m * draws.uniform("size", -0.28, 0.22))
    # x of the middle: between that of the body and that of everything, as boxes follow outstretched arms and legs
    middle = (low + high)[:, 0] * 0.35 + seen[:, 1, 0] * 0.3
    center_y = (low + high)[:, 1] / 2
    cut = draws.uniform("cut") < 0.3 * m
    feet = cut & draws.chance("feet", 0.65)
    head = cut & ~feet
    scale *= np.where(cut, np.exp(np.minimum(m, 1) * draws.uniform("closer", 0.05, 0.5)), 1.0)
    squeeze = np.minimum(1.0, 0.94 * width / ((wide + 0.1) * scale))  # a wide box is resized to the same crop
    scale_x = scale * np.maximum(squeeze, 0.72) * np.exp(m * draws.uniform("aspect", -0.12, 0.12))
    x = (width - 1) / 2 + m * width * draws.uniform("shift x", -0.20, 0.20) - middle * scale_x
    y = (height - 1) / 2 + m * height * draws.uniform("shift y", -0.13, 0.13) - center_y * scale
    y = np.where(feet, height * draws.uniform("above", 0.02, 0.12) - low[:, 1] * scale, y)
    y = np.where(head, height * draws.uniform("below", 0.84, 0.98) - high[:, 1] * scale, y)
    return Framing(np.stack([scale_x, scale], 1), np.stack([x, y], 1))


def place_scene(
    draws: Draws, feet: np.ndarray, pitch: np.ndarray, height: int, width: int, scene: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Top and left (B,) int of each crop in a scene of (height, width) `scene`.

    feet: (B,) the row of the crop that stands on the ground; the ground starts higher, the more so the steeper the
    camera looks down, pitch (B,).
    """
    above = height * (draws.uniform("behind", 0.08, 0.45) + 0.9 * pitch)
    top = horizon(height) - np.minimum(feet - above, 0.85 * height)
    top = np.clip(np.floor(top), 0, scene[0] - height).astype(int)
    left = np.floor(draws.uniform("along", 0, scene[1] - width + 1)).astype(int)
    return top, left


def record(draws: Draws, pixels: np.ndarray, cameras: Cameras, noise: np.ndarray) -> np.ndarray:
    """What the sensors make of pictures: blur, colour, exposure, contrast, noise.

    pixels: (B, 3, H, W) float32, 0 to 1; they are used up. cameras: one row for each picture.
    Returns (B, H, W, 3) uint8.
    """
    b, _, height, width = pixels.shape
    focus = draws.uniform("focus", 0.5, 1.5) * cameras.blur * height / 128
    motion = np.where(draws.chance("motion", 0.15), draws.uniform("speed", 0.0, 0.15), 0.0)
    exposure = np.exp(draws.normal("exposure", 0.0, 0.10))
    slope = draws.uniform("slope", -0.12, 0.12)[:, None] * np.linspace(-1, 1, height)
    gain = cameras.gain[:, :, None] * (exposure[:, None] * (1 + slope))[:, None, :]
    bend = cameras.contrast + draws.normal("contrast", 0.0, 0.08)
    top = np.floor(draws.uniform("grain top", 0, 2 * height, size=3)).astype(int)
    left = np.floor(draws.uniform("grain left", 0, 2 * width, size=3)).astype(int)
    level = 255 * cameras.noise * draws.uniform("grain", 0.6, 1.4)
    _halve(pixels, cameras.halved)
    out = np.empty((b, height, width, 3), np.uint8)
    for start in range(0, b, _IN_CACHE):
        rows = slice(start, start + _IN_CACHE)
        x = pixels[rows]
        _blur(x, focus[rows] + motion[rows], axis=3)
        _blur(x, focus[rows], axis=2)
        grain = windows(noise, height, width)[top[rows], left[rows]]
        grain *= level[rows].astype(F32)[:, None, None, None]
        _develop(x, gain[rows].astype(F32), bend[rows].astype(F32), grain)
        out[rows] = np.moveaxis(x, 1, 3)
    return out


def _develop(x: np.ndarray, gain: np.ndarray, bend: np.ndarray, grain: np.ndarray) -> None:
    """Colour, contrast and noise, in place: from 0 .. 1 to 0.5 .. 255.5, so that dropping the fraction rounds."""
    x *= gain[..., None]
    np.clip(x, 0, 1, out=x)
    curve = 1 - x
    curve *= 255 * bend[:, None, None, None]
    curve += F32(255)
    x *= curve
    x += grain
    x += F32(0.5)
    np.clip(x, 0, F32(255.5), out=x)


def _blur(pixels: np.ndarray, strength: np.ndarray, axis: int) -> None:
    """Mix each pixel with its two neighbours along an axis, in place; `strength` (B,) is the share of each."""
    x = np.moveaxis(pixels, axis, -1)
    share = np.minimum(strength, 0.33).astype(F32)[:, None, None, None]
    steps = (x[..., 1:] - x[..., :-1]) * share
    x[..., :-1] += steps
    x[..., 1:] -= steps


def _halve(pixels: np.ndarray, rows: np.ndarray) -> None:
    """Lower the given pictures to half the resolution and enlarge them again, in place."""
    chosen = np.flatnonzero(rows)
    if not len(chosen):
        return
    x = pixels[chosen]
    small = (x[..., 0::2, 0::2] + x[..., 1::2, 0::2] + x[..., 0::2, 1::2] + x[..., 1::2, 1::2]) * F32(0.25)
    for axis in (2, 3):
        small = _double(small, axis)
    pixels[chosen] = small


def _double(small: np.ndarray, axis: int) -> np.ndarray:
    """Enlarge an axis twofold by linear interpolation."""
    small = np.moveaxis(small, axis, -1)
    large = np.repeat(small, 2, axis=-1)
    quarter = (small[..., 1:] - small[..., :-1]) * F32(0.25)
    large[..., 2::2] -= quarter
    large[..., 1:-1:2] += quarter
    return np.moveaxis(large, -1, axis)
