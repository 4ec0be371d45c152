"""Backgrounds: one wide view for each camera, of which every crop shows a random piece.

A view has a ground, paved towards a vanishing point, and above it what stands behind: walls with windows, hedges,
bicycles, people far off. All textures come from smooth noise of many sizes, so that nothing looks blocky.
"""

from __future__ import annotations

import numpy as np

F32 = np.float32
Scene = np.ndarray  # (3, height, width) float32, 0 to 1


def smooth_noise(
    random: np.random.Generator, height: int, width: int, roughness: float, finest: float = 1.5, stretch: float = 1.0
) -> np.ndarray:
    """Noise (height, width) with mean 0 and sigma 1, whose amplitude falls as frequency ** -roughness; it tiles.

    finest: detail smaller than about this many pixels is left out. stretch: how much taller than wide its grain is.
    """
    spectrum = np.fft.rfft2(random.standard_normal((height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.sqrt(fx * fx + (fy * stretch) ** 2)
    spectrum *= np.exp(-((frequency * finest) ** 2)) / np.maximum(frequency, 1 / max(height, width)) ** roughness
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return (noise / noise.std()).astype(F32)


def draw_scene(random: np.random.Generator, unit: int, horizon: int, height: int, width: int) -> Scene:
    """Draw a view of (height, width) pixels: its ground starts at row `horizon`, people are `unit` pixels tall."""
    scene = np.empty((3, height, width), F32)
    scene[:, horizon:] = _ground(random, unit, height - horizon, width)
    scene[:, :horizon] = _wall(random, unit, horizon, width)
    for _ in range(round(width / unit * random.uniform(0.8, 1.6))):
        thing = _THINGS[random.choice(len(_THINGS), p=_HOW_OFTEN)]
        foot = horizon + random.uniform(-0.05, 0.32) * unit
        thing(random, scene, random.uniform(0, width), foot, unit * random.uniform(0.55, 0.8))
    shadow = smooth_noise(random, height, width, 1.8, unit / 12)
    scene *= 1 - random.uniform(0.08, 0.25) * _ramp(shadow - random.uniform(0.0, 0.9), 1.2)
    scene += smooth_noise(random, height, width, 1.0) * F32(0.012)
    return np.clip(scene, 0, 1)


def _ramp(x: np.ndarray, sharpness: float | np.ndarray) -> np.ndarray:
    """A soft step from 0 to 1 around x = 0."""
    return np.clip(0.5 + x * sharpness, 0, 1).astype(F32)


def _color(random: np.random.Generator, *choices: tuple[int, int, int]) -> np.ndarray:
    color = np.array(choices[random.integers(len(choices))]) / 255
    return np.clip(color + random.normal(0, 0.012, 3) + random.normal(0, 0.03), 0, 1).astype(F32)[:, None, None]


def _textured(color: np.ndarray, *layers: np.ndarray) -> np.ndarray:
    brightness = 1 + sum(layers)
    return color * brightness


def _ground(random: np.random.Generator, unit: int, height: int, width: int) -> np.ndarray:
    base = _color(
        random, (140, 138, 134), (168, 162, 152), (120, 118, 120), (150, 134, 116), (104, 106, 108), (176, 172, 170)
    )
    y, x = np.mgrid[0:height, 0:width].astype(F32)
    far = 0.35 * unit  # rows above the ground's start where its lines would meet
    depth = (y + far) / far
    ground = _textured(
        base,
        0.04 * smooth_noise(random, height, width, 0.7) * np.minimum(depth / 4, 1.5),
        0.07 * smooth_noise(random, height, width, 1.6, 6),
        0.05 * (depth / depth.max() - 0.5),
    )
    if random.random() < 0.65:
        ground *= 1 - random.uniform(0.12, 0.32) * _paving(random, unit, x, depth)
    if random.random() < 0.5:  # a strip of lawn or of other paving along the wall
        edge = random.uniform(0.06, 0.35) * unit
        strip = _color(random, (92, 116, 62), (104, 126, 74), (128, 92, 78), (186, 184, 178))
        strip = _textured(
            strip,
            0.09 * smooth_noise(random, height, width, 0.7, 2),
            0.08 * smooth_noise(random, height, width, 1.5, 5),
        )
        wave = edge + 0.02 * unit * smooth_noise(random, 1, width, 2.0, 9)
        ground += _ramp(wave - y, 0.7) * (strip - ground)
    return ground


def _paving(random: np.random.Generator, unit: int, x: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Joints between slabs, 0 to 1: lines to the vanishing point, and cross lines closer together further away."""
    size = random.uniform(0.25, 0.6)
    across = (x - x.max() * random.uniform(0.2, 0.8)) / (unit * depth * size) + random.random()
    away = random.uniform(3, 6) / size / depth
    joints = []
    for line in (across, away):
        per_pixel = np.maximum(np.abs(np.gradient(line, axis=0)), np.abs(np.gradient(line, axis=1)))
        distance = np.abs(line - np.round(line)) / np.maximum(per_pixel, 1e-6)
        joints.append(np.clip(1.2 - distance, 0, 1) * np.clip(0.35 / per_pixel, 0, 1))
    return np.maximum(*joints).astype(F32)


def _wall(random: np.random.Generator, unit: int, height: int, width: int) -> np.ndarray:
    if random.random() < 0.4:
        return _greenery(random, unit, height, width)
    return _facade(random, unit, height, width)


def _greenery(random: np.random.Generator, unit: int, height: int, width: int) -> np.ndarray:
    """A hedge, or trees with something bright between them."""
    leaves, cloud = smooth_noise(random, height, width, 0.9, 2.2), smooth_noise(random, height, width, 1.7, unit / 16)
    green = _textured(
        _color(random, (66, 88, 48), (84, 104, 60), (58, 76, 56), (98, 106, 66)), 0.28 * leaves, 0.18 * cloud
    )
    if random.random() < 0.5:
        gap = _color(random, (150, 152, 150), (186, 190, 194), (110, 108, 104))
        green += _ramp(cloud + 0.35 * leaves - 0.6, 1.5) * (gap - green)
    return green


def _facade(random: np.random.Generator, unit: int, height: int, width: int) -> np.ndarray:
    """A wall with windows, or a shop front that is nearly all glass."""
    grain, cloud = smooth_noise(random, height, width, 0.7), smooth_noise(random, height, width, 1.7, unit / 16)
    y, x = np.mgrid[0:height, 0:width].astype(F32)
    base = _color(
        random, (150, 146, 140), (186, 178, 164), (122, 84, 70), (96, 98, 104), (204, 202, 198), (138, 118, 98)
    )
    wall = _textured(base, 0.025 * grain, 0.06 * cloud)
    shop = random.random() < 0.4
    share, sill = (random.uniform(0.75, 0.92), 0.06) if shop else (random.uniform(0.35, 0.6), random.uniform(0.25, 0.6))
    pitch, low = unit * random.uniform(0.7, 1.6), height - unit * sill
    top = low - unit * random.uniform(0.7, 1.2)
    inside = (share / 2 - np.abs((x / pitch + random.random()) % 1 - 0.5)) * pitch
    pane = np.minimum(inside, low - y) if shop else np.minimum(np.minimum(inside, low - y), y - top)
    glass = _color(random, (38, 42, 48), (54, 58, 60), (74, 84, 96), (30, 30, 34))
    glass = _textured(glass, 0.35 * _ramp(cloud, 1.0), 0.12 * smooth_noise(random, height, width, 1.2, 3))
    wall += _ramp(pane, 0.6) * (glass - wall)
    wall *= 1 - 0.35 * np.exp(-(((y - height) / (0.05 * unit)) ** 2))  # dark where it meets the ground
    if random.random() < 0.4:  # a coloured band, as on shop fronts
        band = _color(random, (172, 52, 48), (58, 92, 150), (214, 178, 70), (220, 220, 216), (60, 120, 90))
        wall += _ramp(0.09 * unit - np.abs(y - (top - 0.1 * unit)), 0.5) * (band - wall)
    return wall


def _paint(scene: Scene, distance: np.ndarray, color: np.ndarray) -> None:
    """Paint where `distance` (in pixels, to an edge) is below zero."""
    scene += _ramp(-distance, 1.0) * (color - scene)


def _near(scene: Scene, x: float, y: float, reach: float) -> tuple[Scene, np.ndarray, np.ndarray]:
    """The part of a scene within `reach` pixels, and its pixels' places relative to (x, y)."""
    height, width = scene.shape[1:]
    x0, x1 = (int(np.clip(v, 0, width)) for v in (x - reach, x + reach))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (y - reach, y + reach))
    ys, xs = np.mgrid[y0:y1, x0:x1].astype(F32)
    return scene[:, y0:y1, x0:x1], xs - F32(x), ys - F32(y)


def _bicycle(random: np.random.Generator, scene: Scene, x: float, foot: float, size: float) -> None:
    wheel, base = 0.19 * size, 0.3 * size * random.choice([-1, 1])
    part, dx, dy = _near(scene, x, foot - wheel, 0.8 * size)
    line = 0.014 * size
    black = _color(random, (34, 34, 36), (52, 52, 54))
    frame = _color(random, (150, 40, 40), (50, 70, 120), (70, 72, 74), (190, 190, 190))
    for center in (-base, base):
        _paint(part, np.abs(np.hypot((dx - center) / random.uniform(0.7, 1), dy) - wheel) - line, black)
    front, back = (base, 0.0), (-base, 0.0)
    handle, saddle, crank = (0.62 * base, -0.34 * size), (-0.5 * base, -0.3 * size), (-0.15 * base, 0.02 * size)
    tubes = ((front, handle), (handle, crank), (saddle, crank), (back, crank), (back, saddle), (handle, saddle))
    for a, b in tubes:
        _paint(part, _to_line(dx, dy, a, b) - line, frame)
    left, right = ((saddle[0] + side * 0.05 * size, saddle[1]) for side in (-1, 1))
    _paint(part, _to_line(dx, dy, left, right) - 2 * line, black)


def _to_line(dx: np.ndarray, dy: np.ndarray, a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    """Distance of each place to the line from a to b."""
    bx, by = b[0] - a[0], b[1] - a[1]
    t = np.clip(((dx - a[0]) * bx + (dy - a[1]) * by) / (bx * bx + by * by), 0, 1)
    return np.hypot(dx - a[0] - t * bx, dy - a[1] - t * by)


def _bush(random: np.random.Generator, scene: Scene, x: float, foot: float, size: float) -> None:
    part, dx, dy = _near(scene, x, foot - 0.25 * size, size)
    green = _color(random, (70, 96, 52), (90, 110, 60), (56, 80, 56))
    height, width = dx.shape
    leaves = smooth_noise(random, height, width, 0.8, 2.0) if dx.size else dx
    distance = np.hypot(dx / random.uniform(0.9, 1.6), dy) - 0.3 * size + 0.04 * size * leaves
    _paint(part, np.maximum(distance, dy - 0.25 * size), green * (1 + 0.22 * leaves))


def _post(random: np.random.Generator, scene: Scene, x: float, foot: float, size: float) -> None:
    color = _color(random, (90, 92, 94), (180, 180, 178), (60, 62, 66), (200, 170, 60))
    half, tall = random.uniform(0.015, 0.05) * size, random.uniform(0.4, 3) * size
    part, dx, dy = _near(scene, x, foot, tall)
    _paint(
        part, np.maximum(np.maximum(np.abs(dx) - half, dy), -dy - tall), color * (1 - 0.35 * np.clip(dx / half, -1, 1))
    )


def _box(random: np.random.Generator, scene: Scene, x: float, foot: float, size: float) -> None:
    """A parked car far off, a bin, a bench: something with a body and a darker upper part."""
    half, tall = random.uniform(0.15, 0.9) * size, random.uniform(0.3, 0.55) * size
    part, dx, dy = _near(scene, x, foot, 2 * size)
    body = _color(random, (200, 200, 202), (60, 64, 70), (150, 44, 44), (64, 84, 120), (128, 130, 132), (90, 110, 84))
    _paint(part, _rounded(dx, dy + tall / 2, half, tall / 2, 0.08 * size), body * (1 - 0.25 * (dy / tall + 0.5)))
    _paint(part, _rounded(dx, dy + 0.72 * tall, 0.78 * half, 0.16 * tall, 0.05 * size), body * 0.35)


def _rounded(dx: np.ndarray, dy: np.ndarray, half: float, tall: float, corner: float) -> np.ndarray:
    return np.hypot(np.maximum(np.abs(dx) - half + corner, 0), np.maximum(np.abs(dy) - tall + corner, 0)) - corner


def _passer_by(random: np.random.Generator, scene: Scene, x: float, foot: float, size: float) -> None:
    part, dx, dy = _near(scene, x, foot, 1.2 * size)
    skin, hair = _color(random, (200, 156, 124)), _color(random, (40, 34, 32), (90, 64, 46))
    upper = _color(random, (40, 40, 44), (220, 220, 216), (170, 50, 50), (60, 90, 150), (120, 140, 110), (200, 170, 90))
    lower = _color(random, (40, 42, 50), (70, 90, 130), (150, 130, 100), (60, 60, 62))
    step = random.uniform(0, 0.13) * size
    for side in (-1, 1):
        _paint(
            part, _to_line(dx, dy, (side * 0.04 * size, -0.5 * size), (side * step, -0.02 * size)) - 0.05 * size, lower
        )
        arm = (side * 0.14 * size, -0.48 * size)
        _paint(part, _to_line(dx, dy, (side * 0.11 * size, -0.78 * size), arm) - 0.035 * size, upper * 0.9)
    _paint(part, _rounded(dx, dy + 0.66 * size, 0.11 * size, 0.18 * size, 0.05 * size), upper * (1 - 0.15 * dx / size))
    _paint(part, np.hypot(dx, (dy + 0.91 * size) / 1.2) - 0.055 * size, skin)
    _paint(part, np.maximum(np.hypot(dx, (dy + 0.93 * size) / 1.2) - 0.06 * size, dy + 0.93 * size), hair)


_THINGS = (_bicycle, _bush, _post, _passer_by, _box)
_HOW_OFTEN = (0.3, 0.2, 0.14, 0.2, 0.16)
