"""Frame -> boxes and the tracklets that they belong to: found by a detector and a tracker, or read from a file.

A follower's state is a plain value, so that work goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from partalign.people.boxes import Boxes
from partalign.people.cut import Cutting
from partalign.people.detect import Detector, checked
from partalign.people.frames import Frame, Position
from partalign.people.motion import SIDE, Motion
from partalign.people.track import Tracker

_LEAST_MOTION = 0.02  # share of a tracklet's boxes that changes between frames, in the mean; furniture stays below


@dataclass(frozen=True)
class Seen:
    """What was seen in a frame: boxes (N, 5), the tracklet of each (None: of none), those that ended before or now.

    motion: (N,) share of each box that changed.
    """

    boxes: np.ndarray
    tracklets: list[Hashable | None]
    ended: list[Hashable]
    motion: np.ndarray


class Follower(Protocol):
    """What turns frames into tracklets."""

    def wants(self, frame: Frame) -> bool:
        """Whether there is anything to do with this frame."""
        ...

    def look(self, frame: Frame) -> Seen | None:
        """Take the next frame; None where nothing moved in it."""
        ...

    def proven(self, cutting: Cutting) -> bool:
        """Whether a tracklet is surely of a person."""
        ...

    def name(self, tracklet: Hashable) -> str | None:
        """Return the name that a tracklet brings along, None where it has none."""
        ...

    def ending(self, position: Position) -> str | None:
        """Say what was left over when the source ended here; None where nothing was."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values."""
        ...

    def from_json(self, state: dict[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        ...


class Detecting:
    """A detector and a tracker. least: boxes from which a tracklet counts. still: keep people who never move as well.

    The detector is not run on frames in which nothing moved since the last. Who stands still, and is missed, is taken
    to be there until something moves in that place.
    """

    def __init__(self, detector: Detector, gap: float, least: int, still: bool):
        self.detector, self.least, self.still = detector, least, still
        self.tracker, self.motion = Tracker(gap), Motion()

    def wants(self, frame: Frame) -> bool:  # noqa: ARG002
        """Whether to look: at every frame."""
        return True

    def look(self, frame: Frame) -> Seen | None:
        """Find people and follow them; None where nothing moved. Raises VideoError for a detector's odd results."""
        if not self.motion.moved(frame.grey(SIDE)):
            self.tracker.hold(frame.time, lambda boxes: np.zeros(len(boxes)))
            return None
        pixels = frame.pixels()
        boxes = checked(self.detector(pixels), self.detector, f"frame {frame.number}")
        height, width = pixels.shape[:2]
        numbers, ended = self.tracker.update(frame.time, boxes)
        self.tracker.hold(frame.time, lambda boxes: self.motion.shares(boxes, width, height))
        shares = self.motion.shares(boxes, width, height)
        return Seen(boxes, [None if number < 0 else number for number in numbers], [*ended], shares)

    def proven(self, cutting: Cutting) -> bool:
        """Whether a tracklet has boxes enough, and moved: pillars and coats on a hook do not."""
        moved = self.still or cutting.motion >= _LEAST_MOTION * cutting.boxes
        return cutting.boxes >= self.least and moved

    def name(self, tracklet: Hashable) -> str | None:  # noqa: ARG002
        """Return None: tracklets are numbered."""
        return None

    def ending(self, position: Position) -> str | None:  # noqa: ARG002
        """Return None: everything was looked at."""
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"tracker": self.tracker.to_json(), "motion": self.motion.to_json()}

    def from_json(self, state: dict[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        self.tracker.from_json(state["tracker"])
        self.motion.from_json(state["motion"])


class Given:
    """Boxes from a file. Ids, where the file has them, are the tracklets; else boxes are followed by the tracker."""

    def __init__(self, boxes: Boxes, gap: float, least: int):
        self.boxes, self.least = boxes, least
        self.tracker = Tracker(gap)
        self._last = {name: row for row, name in enumerate(boxes.ids)} if boxes.named else {}

    def wants(self, frame: Frame) -> bool:
        """Whether the file has boxes of this frame."""
        rows = self.boxes.of(frame.number, frame.time)
        return rows.stop > rows.start

    def look(self, frame: Frame) -> Seen:
        """Return the boxes of this frame."""
        rows = self.boxes.of(frame.number, frame.time)
        boxes = self.boxes.values[rows]
        still = np.zeros(len(boxes))
        if self.boxes.named:
            ids = self.boxes.ids[rows]
            ended: list[Hashable] = [name for row, name in enumerate(ids, rows.start) if self._last[name] <= row]
            return Seen(boxes, [*ids], ended, still)
        numbers, closed = self.tracker.update(frame.time, boxes)
        return Seen(boxes, [None if number < 0 else number for number in numbers], [*closed], still)

    def proven(self, cutting: Cutting) -> bool:
        """Whether a tracklet has boxes enough; with an id one is enough."""
        return self.boxes.named or cutting.boxes >= self.least

    def name(self, tracklet: Hashable) -> str | None:
        """Return the tracklet's id."""
        return str(tracklet) if self.boxes.named else None

    def ending(self, position: Position) -> str | None:
        """Say how many boxes are of frames after the end: the file may be of another video."""
        rows = self.boxes.of(position.frames, position.time)
        late = len(self.boxes.at) - rows.stop
        return f"{late:,} of {len(self.boxes.at):,} boxes are of frames after its end" if late else None

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return self.tracker.to_json()

    def from_json(self, state: dict[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        self.tracker.from_json(state)
