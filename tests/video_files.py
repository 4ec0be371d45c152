"""Videos that tests write, of coloured people on a grey wall, and a detector that finds just these."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy import ndimage

WALL = np.random.default_rng(0).integers(100, 140, (120, 160, 1)).repeat(3, axis=2).astype(np.uint8)
COLOURS = ((220, 30, 30), (30, 30, 220), (30, 200, 30))

Walk = Callable[[float], tuple[float, float] | None]


def person(picture: np.ndarray, colour: Sequence[int], left: float, top: float, width: int = 24, height: int = 48):
    """Paint a person: a head and a body of one colour, striped so that no two crops of a walk look alike."""
    x, y = round(left), round(top)
    body = np.zeros((120, 160), bool)
    body[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    picture[body] = colour
    stripe = np.zeros_like(body)
    stripe[max(0, y) : max(0, y + height) : 6] = True
    picture[body & stripe] = np.array(colour) // 2


def paint(time: float, walks: Sequence[Walk]) -> np.ndarray:
    """Return the frame, (120, 160, 3), uint8, at a time; each walk gives left and top of a person, None while away."""
    picture = WALL.copy()
    for colour, walk in zip(COLOURS, walks, strict=False):
        if (place := walk(time)) is not None:
            person(picture, colour, *place)
    return picture


def crossing(start: float, *, speed: float = 30.0, top: float = 40.0) -> Walk:
    """Walk from the left edge to the right one."""

    def walk(time: float) -> tuple[float, float] | None:
        left = (time - start) * speed - 24
        return (left, top) if -24 < left < 160 else None

    return walk


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 10,
    times: Iterable[float] | None = None,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames (H, W, 3), uint8, RGB, at a constant rate or at given times (seconds, to the millisecond)."""
    stamps = None if times is None else iter(times)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options or {"qscale": "2"})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = 12
                stream.codec_context.max_b_frames = 2
                stream.codec_context.time_base = Fraction(1, 1000 if stamps else rate)
                stream.codec_context.bit_rate = 2_000_000
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = round(next(stamps) * 1000) if stamps else number
            picture.time_base = stream.codec_context.time_base
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def walking(path: Path, *walks: Walk, seconds: float, rate: int = 10, **options) -> Path:
    """Encode people who walk."""
    times = np.arange(round(seconds * rate)) / rate
    return write_video(path, (paint(time, walks) for time in times), rate=rate, **options)


def find_colours(pixels: np.ndarray) -> np.ndarray:
    """Detect: boxes (N, 5) around what is coloured."""
    values = pixels.astype(int)
    coloured = values.max(2) - values.min(2) > 60
    boxes = []
    for number, colour in enumerate(COLOURS):
        mine = coloured & (values.argmax(2) == int(np.argmax(colour)))
        labels, count = ndimage.label(ndimage.binary_closing(np.pad(mine, 4), iterations=3)[4:-4, 4:-4])
        for rows, columns in ndimage.find_objects(labels)[:count]:
            height, width = rows.stop - rows.start, columns.stop - columns.start
            if height > 30 and width > 6:
                boxes.append((columns.start, rows.start, width, height, 0.9 - number / 10))
    return np.array(boxes).reshape(-1, 5)


def find_red(pixels: np.ndarray) -> list[tuple[int, int, int, int, float]]:
    """Detect one person, who is red."""
    red = pixels[..., 0] > pixels[..., 1] + 60.0
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    if len(rows) < 2 or len(columns) < 2:
        return []
    return [(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1, 1.0)]
