"""From videos to crops: each source read once, in constant memory, stopped and gone on with at any moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partalign import progress
from partalign.crops import Crop
from partalign.errors import VideoError
from partalign.people.boxes import Boxes, read_boxes
from partalign.people.cut import Candidate, Cutting, cut, qualities, region_of
from partalign.people.detect import Detector, HogDetector
from partalign.people.follow import Detecting, Follower, Given, Seen
from partalign.people.frames import Frame, Position, Source, open_source
from partalign.people.store import FORMAT, Place, alone, check_out, find_place, places, save_table


@dataclass(frozen=True)
class Settings:
    """How to look.

    rate: frames looked at in a second of video; a folder of frames is taken to have so many. gap: seconds without a box
    after which a tracklet ends. least: boxes from which a tracklet counts. every: seconds of which the best crop is
    kept. height: pixels that a crop must have. still: keep also what never moves. camera: None for the source's name.
    start: time of the first frame, seconds. Raises VideoError for values out of range.
    """

    rate: float = 5.0
    gap: float = 2.0
    least: int = 5
    every: float = 1.0
    height: int = 48
    still: bool = False
    camera: str | None = None
    start: float = 0.0

    def __post_init__(self):
        ranges = {"rate": (1e-4, 1e3), "gap": (0, 3600), "least": (1, 1e6), "every": (0, 1e6), "height": (1, 1e5)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise VideoError(f"--{name}: expected {low:g} to {high:g}, found {value:g}")


@dataclass(frozen=True)
class Found:
    """What was found in one source. frames: looked at; moving: those of them in which something moved.

    seconds: of the video. note: what was wrong with it. new: whether this call did any of the work.
    """

    name: str
    frames: int
    moving: int
    boxes: int
    tracklets: int
    crops: int
    seconds: float
    note: str | None = None
    new: bool = True


def find_people(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    detector: Detector | None = None,
    boxes: Sequence[str | Path] = (),
    settings: Settings | None = None,
    save_every: float = 5.0,
) -> tuple[Found, ...]:
    """Find people in videos, or folders of frames, and write their crops and `crops.csv` into a folder.

    detector: a function of a frame, (H, W, 3), uint8, RGB, that returns boxes (N, 5): left, top, width, height in
    pixels and a score; from 0.5 on it begins a tracklet. It must depend on the frame alone. The default is
    `HogDetector()`. boxes: instead, one file of boxes for each source (`people.boxes`). save_every: seconds of work
    after which the state is saved. A call with the same arguments goes on where another one stopped, and ends with the
    same files; what is finished is not done again. Raises VideoError, SaveError, MissingExtraError.
    """
    settings, out = settings or Settings(), Path(out)
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise VideoError("expected at least one video or folder of frames, found none")
    if boxes and (detector is not None or len(boxes) != len(paths)):
        raise VideoError(
            f"expected one file of boxes for each of {len(paths)} sources and no detector, found {len(boxes)}"
        )
    check_out(out, paths)
    opened = [open_source(path, settings.rate) for path in paths]  # before hours of work
    given = [read_boxes(Path(file)) for file in boxes]
    detector = detector or (None if given else HogDetector())
    found = []
    with alone(out):
        for number, source in enumerate(opened):
            follower, origin = _follower(detector, given[number] if given else None, settings)
            place = find_place(out, source.path, source.fingerprint)
            found.append(_Run(source, place, follower, settings, origin).finish(save_every))
            if all_places := [place for place in places(out) if place.list.exists() and place.length()]:
                save_table(out, all_places)
    return tuple(found)


def _follower(detector: Detector | None, boxes: Boxes | None, settings: Settings) -> tuple[Follower, str]:
    """Return what finds the people, and a word for it by which a run is told from another."""
    if boxes is not None:
        return Given(boxes, settings.gap, settings.least), f"boxes {boxes.fingerprint}"
    if detector is None:
        raise VideoError("expected a detector or boxes, found neither")
    origin = repr(detector) if isinstance(detector, HogDetector) else getattr(detector, "__qualname__", "detector")
    return Detecting(detector, settings.gap, settings.least, settings.still), origin


@dataclass
class _Run:
    """One source on its way: everything here but the first line is saved, and read again by the next call."""

    source: Source
    place: Place
    follower: Follower
    settings: Settings
    origin: str
    position: Position = field(default_factory=Position)
    tick: int = -1
    counts: Counter[str] = field(default_factory=Counter)
    cuttings: dict[Hashable, Cutting] = field(default_factory=dict)

    def finish(self, save_every: float) -> Found:
        """Read the source to its end, or do nothing where that was done."""
        state = self.place.read_state()
        if state is not None:
            self._check(state)
            if state["done"]:
                return self._found(Counter(state["counts"]), state["position"]["time"], state["note"], new=False)
            self._load(state)
        self.place.begin(0 if state is None else state["length"])
        total = None if self.source.duration is None else max(1, round(self.source.duration))
        saved = time.monotonic()
        with progress.bar(self.place.name, total or 1, completed=int(self.position.time)) as advance:
            for frame in self.source.frames(self.position if state is not None else None):
                before, self.position = int(self.position.time), frame.position
                self._take(frame)
                advance(int(frame.time) - before, f"{self.counts['tracklets']} tracklets")
                if time.monotonic() - saved >= save_every:
                    self._save()
                    saved = time.monotonic()
        for tracklet in list(self.cuttings):
            self._end(tracklet)
        note = self._note()
        self._save(done=True, note=note)
        return self._found(self.counts, self.position.time, note, new=True)

    def _take(self, frame: Frame) -> None:
        """Look at a frame, if it is the first of its tick."""
        tick = int(frame.time * self.settings.rate + 1e-6)
        if tick <= self.tick or not self.follower.wants(frame):
            return
        self.tick = tick
        self.counts["frames"] += 1
        seen = self.follower.look(frame)
        if seen is None:
            return
        self.counts["moving"] += 1
        self.counts["boxes"] += len(seen.boxes)
        self._cut(frame, seen)
        for tracklet in seen.ended:
            self._end(tracklet)

    def _cut(self, frame: Frame, seen: Seen) -> None:
        if not any(tracklet is not None for tracklet in seen.tracklets):
            return
        pixels = frame.pixels()
        height, width = pixels.shape[:2]
        good = qualities(seen.boxes, width, height)
        for row, tracklet in enumerate(seen.tracklets):
            if tracklet is None:
                continue
            cutting = self.cuttings.setdefault(tracklet, Cutting())
            cutting.boxes += 1
            cutting.motion += float(seen.motion[row])
            region = region_of(seen.boxes[row], width, height)
            if region[3] >= self.settings.height and region[2] > 0:
                candidate = cut(pixels, region, frame.number, frame.time, float(good[row]))
                cutting.add(candidate, self.settings.every)
            self._write(tracklet, cutting)

    def _end(self, tracklet: Hashable) -> None:
        cutting = self.cuttings.pop(tracklet, None)
        if cutting is not None:
            cutting.close()
            self._write(tracklet, cutting)

    def _write(self, tracklet: Hashable, cutting: Cutting) -> None:
        """Write the crops that a tracklet holds, once it is surely of a person."""
        if not cutting.held or not self.follower.proven(cutting):
            return
        if cutting.number is None:
            self.counts["tracklets"] += 1
            cutting.number = f"{self.counts['tracklets']:04d}"
        name = self.follower.name(tracklet) or cutting.number
        for candidate in cutting.held:
            self.place.add(self._crop(candidate, cutting.number, name), candidate.jpeg)
            self.counts["crops"] += 1
        cutting.held = []

    def _crop(self, candidate: Candidate, number: str, name: str) -> Crop:
        path = self.place.crops / f"{number}_f{candidate.frame:07d}.jpg"
        left, top, width, height = (float(value) for value in candidate.region)
        seconds = round(self.settings.start + candidate.time, 3)
        camera = self.settings.camera or self.place.name
        return Crop(path, None, camera, f"{self.place.name}-{name}", seconds, (left, top, width, height))

    def _note(self) -> str | None:
        if self.position.frames == 0:
            return "not one frame could be decoded"
        notes = self.source.ending(self.position), self.follower.ending(self.position)
        return "; ".join(note for note in notes if note) or None

    def _found(self, counts: Counter[str], seconds: float, note: str | None, *, new: bool) -> Found:
        names = ("frames", "moving", "boxes", "tracklets", "crops")
        return Found(self.place.name, *(counts[name] for name in names), seconds=seconds, note=note, new=new)

    def _described(self) -> dict[str, Any]:
        return {**asdict(self.settings), "people from": self.origin}

    def _check(self, state: dict[str, Any]) -> None:
        """Raise VideoError where the place was begun with other settings."""
        now, then = self._described(), state["settings"]
        if changed := [name for name in now if now[name] != then.get(name)]:
            told = ", ".join(f"{name} {then.get(name)}, now {now[name]}" for name in changed)
            raise VideoError(
                f"{self.place.crops}: made with other settings ({told}); choose another --out, or delete it "
                f"and {self.place.state}"
            )

    def _save(self, *, done: bool = False, note: str | None = None) -> None:
        state = {
            "format": FORMAT,
            "fingerprint": self.source.fingerprint,
            "settings": self._described(),
            "done": done,
            "note": note,
            "length": self.place.length(),
            "position": asdict(self.position),
            "tick": self.tick,
            "counts": dict(self.counts),
        }
        if not done:
            state["follower"] = self.follower.to_json()
            state["cuttings"] = [[name, cutting.to_json()] for name, cutting in self.cuttings.items()]
        self.place.write_state(state)

    def _load(self, state: dict[str, Any]) -> None:
        """Raises VideoError where the state is damaged."""
        try:
            self.position, self.tick = Position(**state["position"]), state["tick"]
            self.counts = Counter(state["counts"])
            self.follower.from_json(state["follower"])
            self.cuttings = {name: Cutting.from_json(cutting) for name, cutting in state["cuttings"]}
        except (KeyError, TypeError, ValueError):
            raise VideoError(f"{self.place.state}: damaged; delete it and {self.place.crops} to begin anew") from None
