"""Which gallery rows match a query, which are ignored for it, which are junk, and what is drawn: protocols by name.

Knows crops only by their records; no descriptor is needed to apply a protocol.
"""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partalign.crops import JUNK, Crop
from partalign.errors import EvaluationError
from partalign.evaluation.metrics import CMCKind, require_one_of

SameCamera = Literal["ignore", "keep", "tracklet"]
"""What becomes of gallery crops of the query's person from the query's camera; see `Protocol`."""

TrackletPooling = Literal["mean", "max"]
"""How the descriptors of a tracklet's frames become one."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Gallery rows that match each query, that are ignored for it, and that are junk for all; no row is in two.

    matches, ignored: one ascending array of row numbers per query. junk: one array.
    """

    matches: tuple[np.ndarray, ...]
    ignored: tuple[np.ndarray, ...]
    junk: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """The rules by which descriptors of a query and a gallery are scored.

    Of every protocol: gallery crops of person "-1" (bad detections) are junk, left out of every ranking; those of the
    query's person are matches; all others, "0000" among them, ordinary non-matches.

    same_camera: which crops of the query's own person say nothing and are left out of its ranking.
      "ignore", of Market-1501 (Zheng et al. 2015): those of the query's camera. For data of a single camera:
      "tracklet": those of the query's tracklet; "keep": only the query's own picture (the same file). Neighbouring
      frames of one walk are then matches too, which makes figures look better than they are.
    tracklets: rank tracklets and not crops, each by the mean or the maximum of its frames' descriptors (MARS, Zheng et
      al. 2016); None: rank crops.
    draws: 0 to rank the whole gallery; else so many times one query crop and one gallery crop of each person are drawn
      ("single gallery shot", CUHK03's first protocol, Li et al. 2014), for every test set, and results are means over
      draws. seed: of the draws, which depend on the crops' names and not on their order.
    cmc: see `metrics.cmc`.

    A query without a match cannot be scored; whoever applies a protocol counts and reports those. Raises
    EvaluationError where a word is unknown.
    """

    name: str = "market1501"
    same_camera: SameCamera = "ignore"
    tracklets: TrackletPooling | None = None
    draws: int = 0
    seed: int = 0
    cmc: CMCKind = "first-match"

    def __post_init__(self):
        require_one_of(self.same_camera, SameCamera, "same_camera")
        require_one_of(self.cmc, CMCKind, "cmc")
        if self.tracklets is not None:
            require_one_of(self.tracklets, TrackletPooling, "tracklets")

    def relevance(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Relevance:
        """Sort out the gallery for each query.

        Raises EvaluationError where a person is missing, or a camera or tracklet on which a decision hangs.
        """
        _require(query, "query", "person")
        _require(gallery, "gallery", "person")
        wanted = {crop.person for crop in query} - {JUNK}
        rows: dict[str | None, list[int]] = defaultdict(list)
        for row, crop in enumerate(gallery):
            if crop.person in wanted:
                rows[crop.person].append(row)
        if self.same_camera != "keep":
            what = "camera" if self.same_camera == "ignore" else "tracklet"
            _require(query, "query", what)
            _require(
                [gallery[row] for found in rows.values() for row in found], "gallery (of the queries' persons)", what
            )
        source = _SOURCE[self.same_camera]
        sources = {person: np.array([source(gallery[row]) for row in found]) for person, found in rows.items()}
        known = {person: np.array(found, dtype=np.intp) for person, found in rows.items()}
        matches, ignored = [], []
        for crop in query:
            found = known.get(crop.person, _NO_ROWS)
            same = sources[crop.person] == source(crop) if len(found) else np.empty(0, dtype=bool)
            matches.append(found[~same])
            ignored.append(found[same])
        junk = np.array([row for row, crop in enumerate(gallery) if crop.person == JUNK], dtype=np.intp)
        return Relevance(tuple(matches), tuple(ignored), junk)

    def trials(
        self, query: Sequence[Crop], gallery: Sequence[Crop], test_sets: Sequence[frozenset[str]] = ()
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the query and gallery rows of each trial: one for each test set, or with draws, for each draw of it.

        Persons of whom a side has no crop are not drawn. Raises EvaluationError where a test set has no crops.
        """
        if not self.draws and not test_sets:
            yield np.arange(len(query)), np.arange(len(gallery))
            return
        sides = [_rows_by_person(crops) for crops in (query, gallery)]
        for number, persons in enumerate(test_sets or [None]):
            kept = [{p: rows for p, rows in side.items() if persons is None or p in persons} for side in sides]
            if not kept[0] or not kept[1]:
                raise EvaluationError(f"test set {number} has no crops in the query or in the gallery")
            if not self.draws:
                yield tuple(np.sort(np.concatenate(list(side.values()))) for side in kept)  # type: ignore[misc]
            drawn = sorted((kept[0].keys() & kept[1].keys()) - {JUNK}, key=str)
            if self.draws and not drawn:
                raise EvaluationError(f"test set {number}: no person is both in the query and in the gallery")
            for draw in range(self.draws):
                generator = np.random.default_rng([self.seed, number, draw])
                yield tuple(np.array([generator.choice(side[person]) for person in drawn]) for side in kept)  # type: ignore[misc]


def _rows_by_person(crops: Sequence[Crop]) -> dict[str | None, np.ndarray]:
    """Return the rows of each person, in the order of the crops' names."""
    rows = defaultdict(list)
    for row in sorted(range(len(crops)), key=lambda row: crops[row].key):
        rows[crops[row].person].append(row)
    return {person: np.array(found, dtype=np.intp) for person, found in rows.items()}


_NO_ROWS = np.empty(0, dtype=np.intp)

_SOURCE: dict[SameCamera, Callable[[Crop], str | None]] = {
    "ignore": lambda crop: crop.camera,
    "tracklet": lambda crop: crop.tracklet,
    "keep": lambda crop: os.path.realpath(crop.path),  # a query folder is often one of links into the gallery
}

MARKET1501 = Protocol()
"""The rules of Market-1501, DukeMTMC-reID and the new CUHK03 protocol."""

SINGLE_CAMERA = Protocol("single-camera", same_camera="keep")
"""The same rules for data of one camera, or without cameras: only the query's own picture is ignored."""

MARS = Protocol("mars", tracklets="mean")
"""Market-1501's rules over tracklets; the paper averages the descriptors of their frames."""

SINGLE_SHOT = Protocol("single-shot", draws=100)
"""CUHK01, and CUHK03's first protocol: one probe and one gallery crop of each person, drawn 100 times."""

ALL_SHOTS = Protocol("all-shots", cmc="all-matches")
"""Market-1501's rules, but every match counts in the CMC and not the first alone."""

PROTOCOLS = {protocol.name: protocol for protocol in (MARKET1501, SINGLE_CAMERA, MARS, SINGLE_SHOT, ALL_SHOTS)}


def named(name: str) -> Protocol:
    """Return the protocol of this name. Raises EvaluationError, with the nearest name, for an unknown one."""
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name.lower(), PROTOCOLS, n=1, cutoff=0.4)
        advice = f"did you mean {near[0]}?" if near else "choose one of them"
        raise EvaluationError(f"expected a protocol of {', '.join(PROTOCOLS)}, found {name!r}; {advice}")
    return PROTOCOLS[name]


def _require(crops: Sequence[Crop], side: str, what: str) -> None:
    missing = [crop for crop in crops if getattr(crop, what) is None]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(crops)} {side} crops have no {what}, the first is {missing[0].path}: "
            + _ADVICE[what]
        )


_ADVICE = {
    "person": 'give each, or "0000" for nobody\'s',
    "camera": "give each, or use same_camera=keep for single-camera data",
    "tracklet": "give each, or use same_camera=keep",
}
