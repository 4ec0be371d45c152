"""Tracklets and frames -> crops: the best one of each while, cut out at the usual 1:2, not twice the same.

Of a tracklet that has yet to prove itself the crops are held in memory, packed and few; then they go to files.
"""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from partalign.people.detect import intersections

Region = tuple[int, int, int, int]

_QUALITY = 92  # of the JPEG files
_LOOK = (8, 16)  # width and height of the miniature by which crops are told apart
_ALIKE = 6.0  # grey levels by which two miniatures of the same picture differ at the most, in the mean
_HELD = 16  # crops that an unproven tracklet keeps at the most
_OFTEN = 10  # crops after which a long tracklet gives fewer and fewer


@dataclass
class Candidate:
    """A packed crop: frame (its number), time, region (left, top, width, height), quality (higher is better)."""

    frame: int
    time: float
    region: Region
    quality: float
    jpeg: bytes = field(repr=False)
    look: bytes = field(repr=False)

    def unlike(self, look: bytes | None) -> bool:
        """Whether this looks different from another crop, given by its miniature."""
        if look is None:
            return True
        difference = np.frombuffer(self.look, np.uint8).astype(float) - np.frombuffer(look, np.uint8)
        return float(np.abs(difference).mean()) >= _ALIKE

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        packed = {name: base64.b64encode(getattr(self, name)).decode() for name in ("jpeg", "look")}
        return asdict(self) | packed

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Candidate:
        """Undo `to_json`."""
        read: dict[str, Any] = {name: base64.b64decode(state[name]) for name in ("jpeg", "look")}
        return cls(**{**state, **read, "region": tuple(state["region"])})


@dataclass
class Cutting:
    """What was seen of one tracklet. number: None until it has proved itself. motion: summed over its boxes."""

    number: str | None = None
    boxes: int = 0
    motion: float = 0.0
    since: float = 0.0
    best: Candidate | None = None
    held: list[Candidate] = field(default_factory=list)
    look: bytes | None = None
    kept: int = 0

    def add(self, candidate: Candidate, every: float) -> None:
        """Take the crop of one more frame: the best of each while of `every` seconds is kept if it looks new."""
        if self.best is not None and candidate.time - self.since >= every * max(1.0, self.kept / _OFTEN) - 1e-6:
            self.close()
        if self.best is None:
            self.since, self.best = candidate.time, candidate
        elif candidate.quality > self.best.quality:
            self.best = candidate

    def close(self) -> None:
        """End the while, and keep the best crop of it if it looks new."""
        if self.best is not None and self.best.unlike(self.look):
            self.look, self.kept = self.best.look, self.kept + 1
            self.held.append(self.best)
            if self.number is None and len(self.held) > _HELD:
                self.held = self.held[::2]
        self.best = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "number": self.number,
            "boxes": self.boxes,
            "motion": self.motion,
            "since": self.since,
            "best": None if self.best is None else self.best.to_json(),
            "held": [candidate.to_json() for candidate in self.held],
            "look": None if self.look is None else base64.b64encode(self.look).decode(),
            "kept": self.kept,
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Cutting:
        """Undo `to_json`."""
        read = {
            "best": None if state["best"] is None else Candidate.from_json(state["best"]),
            "held": [Candidate.from_json(candidate) for candidate in state["held"]],
            "look": None if state["look"] is None else base64.b64decode(state["look"]),
        }
        return cls(**(state | read))


def region_of(box: np.ndarray, width: int, height: int) -> Region:
    """Return what is cut out for a box: made 1:2 by adding to the shorter side, then clipped to the frame.

    The result is (left, top, width, height) in whole pixels, without area where the box lies outside the frame.
    """
    left, top, w, h = (float(value) for value in box[:4])
    centre, middle = left + w / 2, top + h / 2
    w, h = max(w, h / 2), max(h, 2 * w)
    # Clipped before rounding: a box may lie anywhere.
    spans = ((centre - w / 2, centre + w / 2, width), (middle - h / 2, middle + h / 2, height))
    (x, right), (y, bottom) = ((round(min(max(a, 0), m)), round(min(max(b, 0), m))) for a, b, m in spans)
    return x, y, right - x, bottom - y


def qualities(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return how good a crop each box (N, 5) gives, (N,): seen whole, not behind another, found with a high score."""
    areas = np.maximum(boxes[:, 2] * boxes[:, 3], 1e-9)
    frame = np.array([[0.0, 0.0, width, height]])
    inside = intersections(boxes, frame)[:, 0] / areas
    covered = intersections(boxes, boxes) / areas[:, None]
    np.fill_diagonal(covered, 0)
    return inside * (1 - np.minimum(covered.max(axis=1, initial=0), 1)) * (0.5 + 0.5 * np.clip(boxes[:, 4], 0, 1))


def cut(pixels: np.ndarray, region: Region, frame: int, time: float, quality: float) -> Candidate:
    """Cut a region out of a frame, (H, W, 3), uint8, RGB, and pack it."""
    left, top, width, height = region
    picture = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    look = np.asarray(picture.convert("L").resize(_LOOK, Image.Resampling.BOX)).tobytes()
    return Candidate(frame, time, region, quality, file.getvalue(), look)
