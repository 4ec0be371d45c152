"""Frames of a video, or of a folder of pictures, one at a time, each with its time; and how to go on from one of them.

Memory does not grow with the length. Knows nothing of people.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from partalign.errors import MissingExtraError, PictureError, VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

MAX_PIXELS = 64_000_000
"""Frames with more pixels are refused; one of 8K has 33 million."""

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

_SAMPLE = 65536  # bytes at each end of a file that, with its size, tell it from others
_NO_VIDEOS = {"hls", "concat", "dash", "imf", "tty"}  # lists of files that nobody named; text shown as a terminal does
_LATE = 0.5  # seconds by which a video may end before its header says


@dataclass(frozen=True)
class Position:
    """How far a source was read: a value that is saved, and from which reading goes on.

    frames: decoded so far. pts, first: time stamps of the last and the first frame, in the stream's units. time: of the
    last frame, seconds since the first. damaged: packets or pictures that could not be decoded. regular: all time
    stamps rose, so that one of them names one frame.
    """

    frames: int = 0
    pts: int | None = None
    first: int = 0
    time: float = 0.0
    damaged: int = 0
    regular: bool = True


@dataclass(frozen=True)
class Frame:
    """One frame, converted only when its pixels are asked for. number: from 1. time: seconds since the first."""

    number: int
    time: float
    position: Position
    picture: Any

    def pixels(self) -> np.ndarray:
        """Return (H, W, 3), uint8, RGB, upright."""
        if isinstance(self.picture, Image.Image):
            return np.asarray(self.picture)
        return self._upright(self.picture.to_ndarray(format="rgb24"))

    def grey(self, side: int) -> np.ndarray:
        """Return (side, side), uint8: brightness averaged over as many cells, which are not square."""
        if isinstance(self.picture, Image.Image):
            return np.asarray(self.picture.convert("L").resize((side, side), Image.Resampling.BOX))
        return self._upright(self.picture.reformat(side, side, "gray", interpolation="AREA").to_ndarray())

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(pixels, round(self.picture.rotation / 90) % 4))


class Source(Protocol):
    """Something to take frames from. duration: seconds, None where unknown. rate: frames a second, likewise."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def duration(self) -> float | None: ...  # noqa: D102
    @property
    def rate(self) -> float | None: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def frames(self, after: Position | None = None) -> Iterator[Frame]:
        """Yield the frames, or those after a position that was reached before."""
        ...

    def ending(self, position: Position) -> str | None:
        """Say what is wrong with a source that was read up to here and has no more frames; None where nothing is."""
        ...


def open_source(path: Path, rate: float) -> Source:
    """Return a video file, or a folder of pictures at `rate` frames a second, ready to be read.

    Raises VideoError where it is neither, MissingExtraError without PyAV.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return Folder(path, rate)
        if not path.exists():
            raise VideoError(f"{path}: expected a video or a folder of frames, no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{path}: expected a video or a folder of frames, found a device or pipe; save it first")
        return Video(path)
    except OSError as error:
        told = f"cannot read it ({error.strerror or error}); check its rights"
        raise VideoError(f"{path}: expected a video or a folder of frames, {told}") from None


class Video:
    """A video file, of any codec that FFmpeg reads, at a constant or a variable frame rate."""

    def __init__(self, path: Path):
        self.path = path
        self.fingerprint = _fingerprint_file(path)
        with self._open() as container:
            stream = container.streams.video[0]
            length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            if length is None and container.duration:
                length = container.duration / 1_000_000
            self.duration = None if length is None else max(0.0, float(length))
            self.rate = float(stream.average_rate) if stream.average_rate else None

    def frames(self, after: Position | None = None) -> Iterator[Frame]:
        """Yield the frames in the order of showing; those after `after` by seeking, where that finds the very frame.

        Raises VideoError for frames of more than `MAX_PIXELS`.
        """
        position = after or Position()
        pictures = None
        if after is not None and after.regular and not after.damaged and after.pts is not None:
            pictures = self._seek(after.pts)
        if pictures is None:
            pictures = islice(self._decode(), position.frames, None)
        for picture, damaged in pictures:
            position = self._advance(position, picture, damaged)
            yield Frame(position.frames, position.time, position, picture)

    def ending(self, position: Position) -> str | None:
        """Say where a damaged or truncated video ended."""
        last = position.time + (1 / self.rate if self.rate else 0)
        told = []
        if position.damaged:
            told.append(f"{position.damaged:,} damaged packets left out")
        if self.duration is not None and last < self.duration - _LATE:
            told.append(f"ends after {last:.1f} of {self.duration:.1f} seconds; what was there is kept")
        return "; ".join(told) or None

    def _open(self) -> InputContainer:
        try:
            import av
            from av.error import FFmpegError
        except ImportError:
            raise MissingExtraError(f'{self.path}: videos need PyAV: pip install "partalign[video]"') from None
        advice = "give a file that FFmpeg can play, or a folder of frames"
        try:
            # Whatever the file holds, nothing but files is opened, and the name is never taken for an address.
            container = av.open(f"file:{self.path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
        except FFmpegError as error:
            told = error.strerror or "unknown"
            raise VideoError(f"{self.path}: expected a video, cannot decode it ({told}); {advice}") from None
        kind = container.format.name
        pictures = bool(container.streams.video)
        if not pictures or _NO_VIDEOS & set(kind.split(",")):
            container.close()
            found = "text or a list of other files" if pictures else "no pictures in it"
            raise VideoError(f"{self.path}: expected a video, found {found} ({kind}); {advice}")
        return container

    def _decode(self, seek: int | None = None) -> Iterator[tuple[VideoFrame, int]]:
        """Yield frames, each with the number of damaged packets before it."""
        from av.error import FFmpegError

        with self._open() as container:
            stream, damaged = container.streams.video[0], 0
            _require_size(self.path, stream.width, stream.height)
            packets = container.demux(stream)
            if seek is not None:
                container.seek(seek, stream=stream)
            while True:
                try:
                    packet = next(packets)
                except (StopIteration, EOFError):
                    return
                except FFmpegError:  # cut off in the middle of a packet
                    packet = None
                try:
                    for picture in packet.decode() if packet is not None else stream.decode(None):
                        _require_size(self.path, picture.width, picture.height)
                        yield picture, damaged
                        damaged = 0
                except EOFError:
                    return
                except FFmpegError:
                    damaged += 1
                if packet is None:
                    return

    def _seek(self, pts: int) -> Iterator[tuple[VideoFrame, int]] | None:
        """Return the frames after the one with this time stamp; None where seeking does not find it."""
        from av.error import FFmpegError

        pictures = self._decode(seek=pts)
        try:
            for picture, damaged in pictures:
                if damaged or picture.pts is None or picture.pts > pts:
                    return None
                if picture.pts == pts:
                    return pictures
        except FFmpegError:
            pass
        return None

    def _advance(self, position: Position, picture: VideoFrame, damaged: int) -> Position:
        """Return the position after this frame. Time stamps that are missing or fall back are made up from the rate."""
        first = position.frames == 0
        position = replace(position, frames=position.frames + 1, damaged=position.damaged + damaged)
        if picture.pts is None or picture.time_base is None:
            return replace(position, time=(position.frames - 1) / (self.rate or 25.0), regular=False)
        if first:
            return replace(position, pts=picture.pts, first=picture.pts)
        time = float((picture.pts - position.first) * picture.time_base)
        if time <= position.time or position.pts is None:  # a recorder whose clock was set back
            step = 1 / (self.rate or 25.0)
            time = position.time + step
            origin = picture.pts - round(time / picture.time_base)
            return replace(position, pts=picture.pts, first=origin, time=time, regular=False)
        return replace(position, pts=picture.pts, time=time)


class Folder:
    """Pictures of one folder, in the order of the numbers in their names, as frames at a given rate."""

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        with os.scandir(path) as entries:
            found = [e for e in entries if e.name.lower().endswith(PICTURES) and not e.name.startswith(".")]
            sizes = {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
        self.names = sorted(sizes, key=_natural)
        if not self.names:
            advice = f"expected frames ({', '.join(PICTURES)}), found none; give the folder that holds them, or a video"
            raise VideoError(f"{path}: {advice}")
        listed = "".join(f"{name}\0{sizes[name]}\0" for name in self.names)
        self.fingerprint = hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()[:16]
        self.duration = len(self.names) / rate

    def frames(self, after: Position | None = None) -> Iterator[Frame]:
        """Yield the frames that can be read."""
        position = after or Position()
        start = position.frames + position.damaged
        for number, name in enumerate(self.names[start:], start + 1):
            picture = self._read(self.path / name)
            if picture is None:
                position = replace(position, damaged=position.damaged + 1)
                continue
            position = replace(position, frames=position.frames + 1, time=(number - 1) / self.rate)
            yield Frame(number, position.time, position, picture)

    def ending(self, position: Position) -> str | None:
        """Say how many pictures could not be read."""
        unread = len(self.names) - position.frames
        return f"{unread:,} of {len(self.names):,} pictures cannot be read and were left out" if unread else None

    def _read(self, path: Path) -> Image.Image | None:
        from partalign.images import read_picture  # imports torch, which videos do not need

        try:
            return read_picture(path)
        except PictureError:
            return None


def _require_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = f"expected frames of at most {MAX_PIXELS:,} pixels"
        raise VideoError(f"{path}: {limit}, found {width} x {height}; make them smaller")


def _fingerprint_file(path: Path) -> str:
    """Tell a file from others by its size and its two ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(f"{size} ".encode())
        digest.update(file.read(_SAMPLE))
        file.seek(max(0, size - _SAMPLE))
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:16]


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Order `frame_2` before `frame_10`."""
    return [(int(word), "") if word.isdecimal() else (math.inf, word) for word in re.split(r"(\d+)", name)], name  # type: ignore[misc]
