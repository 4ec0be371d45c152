"""Things that stand between a camera and a person: posts, parked cars, bushes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated.canvas import Canvas, Stroke, stroke, surface
from partalign.datasets.generated.draws import Draws, Table

POST, CAR, BUSH = range(3)


@dataclass
class Piece(Table):
    """A third of a thing: strokes, and their colours (B, 3)."""

    stroke: Stroke
    color: np.ndarray


@dataclass
class Occluders(Table):
    """At most one thing in each picture, `there` (B,) bool, made of three pieces."""

    there: np.ndarray
    first: Piece
    second: Piece
    third: Piece
    folds: np.ndarray

    @classmethod
    def draw(
        cls, draws: Draws, there: np.ndarray, scale: np.ndarray, points: np.ndarray, size: tuple[int, int]
    ) -> Occluders:
        """Draw things before people whose points (B, N, 2) are in pixels, at (B, 2) pixels a metre."""
        height, width = size
        kind = draws.choice("occluder", (0.3, 0.4, 0.3))
        aside = np.where(kind == POST, draws.uniform("post aside", 0, 0.3), draws.uniform("thing aside", 0, 0.9))
        aside *= np.where(draws.chance("occluder left", 0.5), -1.0, 1.0)
        x = points[:, 1, 0] + scale[:, 0] * aside
        top = points[:, :, 1].max(axis=1) - scale[:, 1] * draws.uniform("occluder height", 0.25, 1.0)
        u = draws.uniform("occluder size")
        tint = draws.uniform("occluder tint", size=6).reshape(-1, 2, 3)
        things = (_post, _car, _bush)
        made = [thing(x, top, scale[:, 0], u, tint, height) for thing in things]
        first, second, third = (_choose(kind, [thing[k] for thing in made]) for k in range(3))
        folds = np.floor(draws.uniform("occluder folds", size=2) * [width, height]).astype(int)
        return cls(there, first, second, third, folds)

    def paint(self, canvas: Canvas) -> None:
        """Paint them over what is there."""
        for piece in (self.first, self.second, self.third):
            canvas.draw(piece.stroke, piece.color, self.there, folds=self.folds)

    def cover(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which of the points (B, N), in pixels, they cover, (B, N) bool."""
        x, y = x.astype(np.float32), y.astype(np.float32)
        pieces = (self.first, self.second, self.third)
        covered = np.logical_or.reduce([surface(piece.stroke, x, y).cover > 0.5 for piece in pieces])
        return covered & self.there[:, None]


def _choose(kind: np.ndarray, pieces: list[Piece]) -> Piece:
    """The piece of each picture's own kind of thing."""
    rows = np.arange(len(kind))
    columns = zip(*(vars(piece.stroke).values() for piece in pieces), strict=True)
    strokes = Stroke(*(np.stack(column)[kind, rows] for column in columns))
    return Piece(strokes, np.stack([piece.color for piece in pieces])[kind, rows])


def _at(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    return np.stack([x, np.broadcast_to(y, x.shape)], axis=1)


def _paint_color(tint: np.ndarray, low: float, high: float, colorful: float) -> np.ndarray:
    grey = low + (high - low) * tint[:, :1]
    return np.clip(grey + colorful * (tint - 0.5), 0.03, 0.97)


def _post(x, top, metre, u, tint, height) -> tuple[Piece, Piece, Piece]:  # noqa: ARG001 - a post is as high as the picture
    half = metre * (0.03 + 0.09 * u)
    post = stroke(_at(x, -9.0), _at(x, height + 9.0), half, corner=0.0)
    high = 0.3 * height * u
    sign = stroke(_at(x, high), _at(x, high + 0.25 * metre), half + 0.1 * metre * u, corner=0.02 * metre)
    color = _paint_color(tint[:, 0], 0.2, 0.75, 0.12)
    plate = np.where((u > 0.6)[:, None], 0.2 + 0.55 * tint[:, 1], color)
    return Piece(post, color), Piece(sign, plate), Piece(post, color)


def _car(x, top, metre, u, tint, height) -> tuple[Piece, Piece, Piece]:
    half = metre * (0.5 + 0.9 * u)
    body = stroke(_at(x, top + 0.3 * metre), _at(x, np.maximum(top, height) + metre), half, corner=0.12 * metre)
    roof = stroke(_at(x, top), _at(x, top + 0.5 * metre), half * 0.7, half * 0.85, corner=0.1 * metre)
    low = top + 0.28 * metre
    window = stroke(_at(x, top + 0.05 * metre), _at(x, low), half * 0.64, half * 0.74, corner=0.05 * metre)
    color = _paint_color(tint[:, 0], 0.12, 0.9, 0.3)
    return Piece(body, color), Piece(roof, color * 0.9), Piece(window, _paint_color(tint[:, 1], 0.1, 0.3, 0.05))


def _bush(x, top, metre, u, tint, height) -> tuple[Piece, Piece, Piece]:
    green = np.stack([0.22 + 0.14 * u, 0.34 + 0.1 * tint[:, 0, 0], 0.16 + 0.06 * u], axis=1)
    half = metre * (0.25 + 0.35 * u)

    def blob(aside: float, lower: float, light: float) -> Piece:
        y = top + metre * lower + half
        foot = _at(x + aside * half * 0.5, np.maximum(y + 1, height))
        return Piece(stroke(_at(x + aside * half, y), foot, half * 0.8), green * light)

    return blob(-0.5, 0.15, 0.85), blob(0.6, 0.1, 0.97), blob(0.0, 0.0, 1.09)
