"""Boxes of frame after frame -> tracklets. A tracklet moves at a constant velocity (an alpha-beta filter); boxes are
assigned to tracklets by their overlap with where those are expected (Hungarian method), sure boxes first and unsure
ones to what is left, as in ByteTrack (Zhang et al., 2022).

Sees boxes and times only. Memory grows with the tracklets that are open, not with time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from partalign.people.detect import intersections

SURE = 0.5
"""The score from which a box begins a tracklet; with less it can only continue one."""

_POSITION, _VELOCITY, _SIZE = 0.7, 0.3, 0.5  # how far a box moves the filter's estimates
_GROWN = 0.5  # of a box's width, added on each side before boxes are compared: people step further between two frames
_OVERLAP = 0.3  # the least intersection over union of grown boxes that may show the same person
_QUIET = 0.15  # the share of a tracklet's box that changes at the most while a person stands there
_STEADY = 3  # boxes from which a tracklet is taken to be of a person who is still there
_SAME = 0.6  # the share of a sure box inside a tracklet's from which it does not begin another


@dataclass
class Track:
    """One open tracklet: where it is (centre, size), how fast it moves (a second), when it was last seen.

    lost: something moved where it was, and no box has shown it since.
    """

    number: int
    centre: list[float]
    size: list[float]
    seen: float
    velocity: list[float] = field(default_factory=lambda: [0.0, 0.0])
    boxes: int = 1
    lost: bool = False

    def expected(self, time: float) -> list[float]:
        """Return the box, as left, top, width, height, where the tracklet is expected at a time."""
        ahead = time - self.seen
        (x, y), (w, h) = self.centre, self.size
        return [x + self.velocity[0] * ahead - w / 2, y + self.velocity[1] * ahead - h / 2, w, h]

    def follow(self, box: Sequence[float], time: float) -> None:
        """Move to a box that shows the person at a later time."""
        passed = max(time - self.seen, 1e-3)
        for axis in (0, 1):
            expected = self.centre[axis] + self.velocity[axis] * passed
            surprise = box[axis] + box[axis + 2] / 2 - expected
            self.centre[axis] = expected + _POSITION * surprise
            # The second box of all says how fast; before, the velocity was unknown, not zero.
            self.velocity[axis] += (_VELOCITY if self.boxes > 1 else _POSITION) * surprise / passed
            self.size[axis] += _SIZE * (box[axis + 2] - self.size[axis])
        self.seen = time
        self.boxes += 1
        self.lost = False


class Tracker:
    """Tracklets by motion and overlap. gap: seconds without a box after which a tracklet ends."""

    def __init__(self, gap: float = 2.0):
        self.gap = gap
        self.open: list[Track] = []
        self.begun = 0

    def update(self, time: float, boxes: np.ndarray) -> tuple[list[int], list[int]]:
        """Take the boxes (N, 5) of one frame; times rise. Return (number of each box's tracklet, tracklets that ended).

        The number is -1 for boxes that are not sure enough to begin a tracklet, or show a person who has one.
        """
        ended = [track.number for track in self.open if time - track.seen > self.gap]
        self.open = [track for track in self.open if time - track.seen <= self.gap]
        numbers = [-1] * len(boxes)
        sure = boxes[:, 4] >= SURE
        for chosen in (np.flatnonzero(sure), np.flatnonzero(~sure)):
            waiting = [track for track in self.open if track.seen < time]
            for track, row in _assign([track.expected(time) for track in waiting], boxes, chosen):
                waiting[track].follow(boxes[row].tolist(), time)
                numbers[row] = waiting[track].number
        for row in np.flatnonzero(sure).tolist():
            if numbers[row] < 0 and not self._taken(boxes[row]):
                numbers[row] = self._begin(time, boxes[row].tolist())
        return numbers, ended

    def hold(self, time: float, motion: Callable[[np.ndarray], np.ndarray]) -> None:
        """Take it that people without a box are still where nothing moved: no time passes for their tracklets.

        motion: boxes (N, 4) -> (N,), share of each that changed since the frame before.
        """
        waiting = [track for track in self.open if track.seen < time]
        if not waiting:
            return
        shares = motion(np.array([track.expected(track.seen) for track in waiting]))
        for track, share in zip(waiting, shares.tolist(), strict=True):
            track.lost = track.lost or track.boxes < _STEADY or share > _QUIET
            if not track.lost:
                track.seen, track.velocity = time, [0.0, 0.0]

    def to_json(self) -> dict[str, Any]:
        """Return the open tracklets as plain values."""
        return {"begun": self.begun, "open": [asdict(track) for track in self.open]}

    def from_json(self, state: dict[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        self.begun, self.open = state["begun"], [Track(**track) for track in state["open"]]

    def _begin(self, time: float, box: Sequence[float]) -> int:
        self.begun += 1
        centre = [box[0] + box[2] / 2, box[1] + box[3] / 2]
        self.open.append(Track(self.begun, centre, [box[2], box[3]], time))
        return self.begun

    def _taken(self, box: np.ndarray) -> bool:
        if not self.open:
            return False
        tracks = np.array([track.expected(track.seen) for track in self.open])
        common = intersections(box[None], tracks)[0]
        return bool((common > _SAME * box[2] * box[3]).any())


def _assign(expected: list[list[float]], boxes: np.ndarray, rows: np.ndarray) -> Iterable[tuple[int, int]]:
    """Yield pairs (place in `expected`, row of `boxes`) with the largest sum of overlaps, only `rows` considered."""
    if not expected or not len(rows):
        return
    there, here = _grown(np.array(expected)), _grown(boxes[rows, :4])
    common = intersections(there, here)
    areas = np.prod(there[:, 2:], axis=1)[:, None] + np.prod(here[:, 2:], axis=1)[None]
    overlap = common / (areas - common)
    overlap[overlap < _OVERLAP] = 0
    for track, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[track, column] > 0:
            yield int(track), int(rows[column])


def _grown(boxes: np.ndarray) -> np.ndarray:
    more = boxes[:, 2:3] * _GROWN
    return np.column_stack([boxes[:, :2] - more, boxes[:, 2:4] + 2 * more])
