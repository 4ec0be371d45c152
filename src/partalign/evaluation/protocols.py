"""Which gallery rows match a query, which are ignored for it, and which are junk: the rules of Market-1501.

Knows crops only by their records; no descriptor is needed to apply a protocol.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partalign.crops import JUNK, Crop
from partalign.errors import EvaluationError
from partalign.evaluation.metrics import require_one_of

SameCamera = Literal["ignore", "keep"]
"""What becomes of gallery crops of the query's person from the query's camera; see `Protocol`."""


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
    """Market-1501's rules of scoring (Zheng et al. 2015), and what they become with a single camera.

    * Gallery crops of person "-1" (bad detections) are junk: left out of every ranking.
    * Gallery crops of the query's person are matches, and all others, "0000" among them, ordinary non-matches.
    * same_camera = "ignore": crops of the query's person **and** camera are left out of its ranking.
      "keep": they are matches; only the query's own picture (the same file) is left out. For data of a single
      camera; neighbouring frames of one walk are then matches too, which makes figures look better than they are.

    A query without a match cannot be scored; whoever applies a protocol counts and reports those. Raises
    EvaluationError where `same_camera` is neither.
    """

    same_camera: SameCamera = "ignore"

    def __post_init__(self):
        require_one_of(self.same_camera, SameCamera, "same_camera")

    @property
    def name(self) -> str:
        """What results are reported under: "market1501", or "single-camera" where the same camera is kept."""
        return "market1501" if self.same_camera == "ignore" else "single-camera"

    def relevance(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Relevance:
        """Sort out the gallery for each query.

        Raises EvaluationError where a person is missing, or a camera on which a decision hangs.
        """
        _require_persons(query, "query")
        _require_persons(gallery, "gallery")
        wanted = {crop.person for crop in query} - {JUNK}
        rows: dict[str | None, list[int]] = defaultdict(list)
        for row, crop in enumerate(gallery):
            if crop.person in wanted:
                rows[crop.person].append(row)
        split = self._by_camera if self.same_camera == "ignore" else self._by_file
        pairs = split(query, gallery, {person: np.array(found, dtype=np.intp) for person, found in rows.items()})
        junk = np.array([row for row, crop in enumerate(gallery) if crop.person == JUNK], dtype=np.intp)
        return Relevance(tuple(m for m, _ in pairs), tuple(i for _, i in pairs), junk)

    def _by_camera(self, query: Sequence[Crop], gallery: Sequence[Crop], rows: dict) -> list:
        _require_cameras(query, "query")
        _require_cameras(
            [gallery[row] for found in rows.values() for row in found], "gallery (of the queries' persons)"
        )
        cameras = {person: np.array([gallery[row].camera for row in found]) for person, found in rows.items()}
        pairs = []
        for crop in query:
            found = rows.get(crop.person, _NO_ROWS)
            same = cameras[crop.person] == crop.camera if len(found) else np.empty(0, dtype=bool)
            pairs.append((found[~same], found[same]))
        return pairs

    def _by_file(self, query: Sequence[Crop], gallery: Sequence[Crop], rows: dict) -> list:
        # realpath: a query folder is often one of links into the gallery.
        files = {person: np.array([os.path.realpath(gallery[r].path) for r in found]) for person, found in rows.items()}
        pairs = []
        for crop in query:
            found = rows.get(crop.person, _NO_ROWS)
            own = files[crop.person] == os.path.realpath(crop.path) if len(found) else np.empty(0, dtype=bool)
            pairs.append((found[~own], found[own]))
        return pairs


_NO_ROWS = np.empty(0, dtype=np.intp)

MARKET1501 = Protocol()
"""The rules of Market-1501, DukeMTMC-reID, MARS and the new CUHK03 protocol."""

SINGLE_CAMERA = Protocol(same_camera="keep")
"""The same rules for data of one camera, or without cameras: only the query's own picture is ignored."""


def _require_persons(crops: Sequence[Crop], side: str) -> None:
    _require(crops, side, "person", [c for c in crops if c.person is None], 'give each, or "0000" for nobody\'s')


def _require_cameras(crops: Sequence[Crop], side: str) -> None:
    missing = [c for c in crops if c.camera is None]
    _require(crops, side, "camera", missing, "give each, or use same_camera=keep for single-camera data")


def _require(crops: Sequence[Crop], side: str, what: str, missing: Sequence[Crop], advice: str) -> None:
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(crops)} {side} crops have no {what}, the first is {missing[0].path}: {advice}"
        )
