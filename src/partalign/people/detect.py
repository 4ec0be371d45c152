"""People in one frame. The detector that needs no download is OpenCV's: histograms of oriented gradients and a linear
SVM (Dalal and Triggs, 2005), trained on upright people seen whole.

Any other detector is a function of a frame, (H, W, 3), uint8, RGB, that returns boxes (N, 5): left, top, width, height
in pixels and a score. A score of `track.SURE` or more begins a tracklet, less can only continue one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from partalign.errors import MissingExtraError, VideoError

Detector = Callable[[np.ndarray], Any]

_TIGHT = 0.75  # the window is 128 pixels high, the people that it was trained on 96
_MARGIN = 0.2  # of the height: half of what a window needs around a person who fills the frame
_WINDOW = 128
_STEP, _LEVELS = 1.1, 8  # sizes of window in one octave
_LEAST, _SURE = 0.3, 0.7  # distances from the SVM's plane; found on people who come and go in one indoor video


class HogDetector:
    """OpenCV's HOG people detector on a frame reduced to `rows` rows.

    The smallest person that is found is 96 pixels high after reducing: 27% of the frame with 360 rows. More rows find
    smaller people, in time that grows with their square. Raises VideoError for rows out of range, MissingExtraError
    without OpenCV.
    """

    def __init__(self, rows: int = 360):
        if not 96 <= rows <= 4320:
            raise VideoError(f"--rows: expected 96 to 4320, found {rows}")
        try:
            import cv2
        except ImportError:
            raise MissingExtraError(
                'the people detector needs OpenCV: pip install "partalign[video]", or give boxes'
            ) from None
        if not hasattr(cv2, "HOGDescriptor"):  # plain OpenCV 5 left it out
            raise MissingExtraError(
                f"expected an OpenCV with HOGDescriptor, found {cv2.__version__} without; "
                'pip uninstall it, then pip install "partalign[video]"'
            )
        self.rows = rows
        self._hog = cv2.HOGDescriptor(
            (_WINDOW // 2, _WINDOW), (16, 16), (8, 8), (8, 8), 9, 1, -1.0, 0, 0.2, True, _LEVELS, False
        )  # but for the levels, its own values
        weights: Any = cv2.HOGDescriptor.getDefaultPeopleDetector()
        self._hog.setSVMDetector(weights)

    def __repr__(self) -> str:
        return f"hog, {self.rows} rows"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3), uint8, RGB -> (N, 5): left, top, width, height, score; the best first."""
        import cv2

        height, width = pixels.shape[:2]
        zoom, found = min(1.0, self.rows / height), [np.empty((0, 5))]
        first = True
        # Octave by octave: OpenCV itself shrinks without a filter, and misses large people for it.
        while first or height * zoom * (1 + 2 * _MARGIN) >= _WINDOW:
            size = max(1, round(width * zoom)), max(1, round(height * zoom))
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            found.append(self._windows(small, stride=8 if first else 4) / [zoom, zoom, zoom, zoom, 1])
            zoom, first = zoom / 2, False
        boxes = np.concatenate(found)
        boxes[:, 4] = 1 / (1 + np.exp(2 * (_SURE - boxes[:, 4])))
        return suppress(boxes)

    def _windows(self, picture: np.ndarray, stride: int) -> np.ndarray:
        """Return the people in all windows (N, 5), with their distance from the SVM's plane."""
        import cv2

        # Windows must fit inside: without a border nobody who fills the frame, or stands at its edge, is ever found.
        border = round(_MARGIN * picture.shape[0])
        picture = cv2.copyMakeBorder(picture, border, border, border // 2, border // 2, cv2.BORDER_REPLICATE)
        if picture.shape[0] < _WINDOW or picture.shape[1] < _WINDOW // 2:
            return np.empty((0, 5))
        windows, distances = self._hog.detectMultiScale(
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            hitThreshold=_LEAST,
            winStride=(stride, stride),
            padding=(0, 0),
            scale=_STEP,
            groupThreshold=0,  # all windows: the best of a heap fits better than the mean that OpenCV makes of it
        )
        if not len(windows):
            return np.empty((0, 5))
        boxes = np.asarray(windows, dtype=float)
        boxes[:, :2] += boxes[:, 2:] * (1 - _TIGHT) / 2 - [border // 2, border]
        boxes[:, 2:] *= _TIGHT
        return np.column_stack([boxes, np.ravel(distances)])


def suppress(boxes: np.ndarray, *, overlap: float = 0.4, inside: float = 0.6) -> np.ndarray:
    """Keep the best of boxes (N, 5) that show the same person; returns them, the best first.

    overlap: intersection over union from which two are the same. inside: likewise the share of the smaller box that
    lies in the other, because detectors take legs, or a head with shoulders, for a small person.
    """
    left = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        common = intersections(left[:1], left)[0]
        areas = left[:, 2] * left[:, 3]
        same = common > overlap * (areas[0] + areas - common)
        same |= common > inside * np.minimum(areas[0], areas)
        same[0] = True
        left = left[~same]
    return np.array(kept).reshape(-1, 5)


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, 4+) and (M, 4+) boxes as left, top, width, height -> (N, M) areas that each two have in common."""
    a, b = first[:, None], second[None]
    sides = np.minimum(a[..., :2] + a[..., 2:4], b[..., :2] + b[..., 2:4]) - np.maximum(a[..., :2], b[..., :2])
    return np.prod(np.maximum(sides, 0), axis=-1)


def checked(found: Any, detector: object, place: str) -> np.ndarray:
    """Return what a detector found as (N, 5), float; boxes without area are left out. Raises VideoError.

    A detector that returns (N, 4) has no scores: all are 1.
    """
    try:
        boxes = np.asarray(found, dtype=float)
    except (TypeError, ValueError):
        boxes = np.full((1, 1), np.nan)
    if boxes.size == 0:
        return np.empty((0, 5))
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or not np.isfinite(boxes).all():
        told = "expected boxes (N, 5) of left, top, width, height, score from the detector"
        raise VideoError(f"{place}: {told} {detector!r:.80}, found {np.shape(found)} or values that are no numbers")
    if boxes.shape[1] == 4:
        boxes = np.column_stack([boxes, np.ones(len(boxes))])
    return boxes[(boxes[:, 2] > 0) & (boxes[:, 3] > 0)]
