"""Where a frame differs from the one before: frames in which nothing moves need no detector, and what never moves is
no person.
"""

from __future__ import annotations

import base64

import numpy as np

SIDE = 96
"""Cells in each direction that a frame is divided into."""

_CHANGE = 8  # grey levels by which the mean of a cell changes where something moves; noise and compression stay below


class Motion:
    """Compares frames by the brightness of their cells with the last frame in which something moved."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changed = np.zeros((SIDE, SIDE), bool)

    def moved(self, grey: np.ndarray) -> bool:
        """Take the next frame as (SIDE, SIDE), uint8; return whether anything moved, or it is the first."""
        first = self._last is None
        if self._last is not None:
            self._changed = np.abs(grey.astype(np.int16) - self._last) >= _CHANGE
        if moved := first or bool(self._changed.any()):
            self._last = grey
        return moved

    def shares(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return which share of each box (N, 4+), in a frame of this size, changed: (N,), 0 to 1."""
        scale = np.array([SIDE / width, SIDE / height] * 2)
        first = np.floor(boxes[:, :2] * scale[:2]).astype(int).clip(0, SIDE - 1)
        last = np.ceil((boxes[:, :2] + boxes[:, 2:4]) * scale[2:]).astype(int).clip(first + 1, SIDE)
        spans = zip(first, last, strict=True)
        return np.array([self._changed[top:bottom, left:right].mean() for (left, top), (right, bottom) in spans])

    def to_json(self) -> str | None:
        """Return what the next frame is compared with, as text."""
        return None if self._last is None else base64.b64encode(self._last.tobytes()).decode()

    def from_json(self, text: str | None) -> None:
        """Go on from what `to_json` returned."""
        if text is not None:
            self._last = np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIDE, SIDE)
