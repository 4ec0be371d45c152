"""partalign people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from partalign.errors import MissingExtraError, VideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from partalign.crops import Crop
    from partalign.people import Found

Flag = Annotated[bool, Parameter(negative="")]


def people(
    *videos: Path,
    out: Path,
    camera: str | None = None,
    start: str | None = None,
    rate: float = 5.0,
    boxes: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    rows: int = 360,
    every: float = 1.0,
    gap: float = 2.0,
    least: int = 5,
    height: int = 48,
    still: Flag = False,
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Cut the people out of videos, or folders of frames, in tracklets; stopped at any moment, a second call goes on.

    The crops, with camera, time, tracklet and box, are a folder that `partalign embed` reads.

    Example: partalign people lobby.mp4 yard.mp4 --out crops && partalign embed MODEL crops --out crops.npz

    Args:
        videos: video files, or folders of frames
        out: the folder to write: a folder of crops for each video, crops.csv, and people.png with every tracklet
        camera: the camera's name; by default the video's
        start: when the first frame was taken, such as "2026-11-23 08:00" (UTC) or "2026-11-23 08:00+01:00"; then times
            are seconds since 1970, without it since the first frame
        rate: frames a second to look at; a folder of frames is taken to have so many
        boxes: boxes found by another program, one file for each video, in the order of the videos: MOT text, or CSV
            with columns frame (from 1) or time, left, top, width, height and, where known, id and score
        rows: height in pixels at which people are looked for; more finds smaller ones, and takes longer
        every: seconds of a tracklet of which the best crop is kept
        gap: seconds for which a person may be hidden without a new tracklet
        least: boxes that a tracklet must have
        height: pixels that a crop must have
        still: keep also what never moves; left out by default, because it is furniture as a rule
        json_: also write the counts of each video to this file
    """
    from partalign.datasets.folder import find_crops
    from partalign.people import Settings, find_people
    from partalign.people.detect import HogDetector

    settings = Settings(rate, gap, least, every, height, still, camera, _seconds(start))
    detector = None if boxes else HogDetector(rows)
    found = find_people(videos, out, detector=detector, boxes=boxes or (), settings=settings)
    for one in found:
        print(_line(one))
    if json_ is not None:
        _write_json(json_, found)
    if not any(one.crops for one in found):
        advice = "the detector finds people who stand upright and are seen whole; try more --rows, or give --boxes"
        raise VideoError(f"{out}: expected people, found nobody; {advice}")
    crops = find_crops([out])  # also those of earlier calls
    print(f"{out / 'crops.csv'}: {len(crops):,} crops")
    _draw(out, crops)


def _seconds(start: str | None) -> float:
    if start is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(start)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise VideoError(f'--start: expected a time such as "2026-11-23 08:00", found {start!r:.40}') from None


def _line(one: Found) -> str:
    done = "" if one.new else "done before: "
    note = f"; {one.note}" if one.note else ""
    return (
        f"{one.name}: {done}{one.seconds:.1f} s, {one.frames:,} frames looked at ({one.moving:,} with movement), "
        f"{one.boxes:,} boxes, {one.tracklets:,} tracklets, {one.crops:,} crops{note}"
    )


def _write_json(path: Path, found: tuple[Found, ...]) -> None:
    import json
    from dataclasses import asdict

    from partalign.files import atomic_file

    with atomic_file(path) as file:
        file.write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False).encode() + b"\n")


def _draw(out: Path, crops: Sequence[Crop]) -> None:
    """Draw every tracklet; without the libraries for it, say what is missing."""
    import sys

    from partalign.pictures.people import draw_tracklets
    from partalign.pictures.saving import save_picture

    try:
        save_picture(draw_tracklets(crops), out / "people.png", colours=256)
    except MissingExtraError as error:
        print(f"no people.png: {error}", file=sys.stderr)
        return
    print(out / "people.png")
