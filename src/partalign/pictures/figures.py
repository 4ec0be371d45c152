"""The paper's figures of local descriptors, from what both streams say of some crops (Figs. 3, 4, 5 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from partalign.errors import ShapeError
from partalign.model.body_parts import PARTS, assign_places
from partalign.pictures.local_maps import LocalMaps
from partalign.pictures.part_maps import joint_parts
from partalign.pictures.plane import SIDE, Labels, Panel, draw_tsne
from partalign.pictures.stream_maps import HEIGHT, draw_stream_maps
from partalign.pictures.theme import LIGHT, Theme
from partalign.pictures.tsne import cut_patches, descriptors_at, embed_in_plane, sample_places

ROWS = ("patches", "parts", "persons")
PATCHES = 30
"""So many patches fit beside each other."""


def draw_local_descriptors(
    maps: LocalMaps,
    *,
    points: int = 1500,
    rows: Sequence[str] = ROWS,
    seed: int = 0,
    side: int = SIDE,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw the t-SNE of local appearance descriptors beside that of local part descriptors (Fig. 3).

    points: how many places are drawn by lot. rows: as the patches of the pictures; as points coloured by body part, and
    by person, where places of the background count as neither. Raises ShapeError, MissingExtraError.
    """
    if unknown := set(rows) - set(ROWS):
        raise ShapeError(f"expected rows of {', '.join(ROWS)}, found {', '.join(sorted(unknown))}")
    size = maps.parts.shape[2:]
    places = sample_places((len(maps), *size), points, seed)
    panels = []
    for title, chosen in (("(a) Appearance", maps.appearance), ("(b) Parts", maps.parts)):
        descriptors = descriptors_at(chosen, places)
        panels.append(Panel(title, embed_in_plane(descriptors, seed), descriptors))
    parts = body_parts(maps)[tuple(places.T)]
    labels = [_labels(row, maps, places, parts) for row in rows if row != "patches"]
    patches = cut_patches(maps.pictures, places, size, side // PATCHES) if "patches" in rows else None
    return draw_tsne(panels, places, patches, labels, side=side, theme=theme)


def body_parts(maps: LocalMaps) -> np.ndarray:
    """Return the body part of each place, (N, h, w) int: the number of a part in `PARTS`, -1 for the background."""
    size: tuple[int, int] = maps.parts.shape[2:]  # type: ignore[assignment]
    shares = np.stack(
        [
            assign_places(joints, maps.joint_names, size, picture.width / picture.height)
            for joints, picture in zip(maps.joints, maps.pictures, strict=True)
        ]
    )
    parts = shares.argmax(axis=1)
    return np.where(parts == PARTS.index("background"), -1, parts)


def draw_maps(
    maps: LocalMaps,
    shown: int | None = None,
    *,
    joints: bool = False,
    against: LocalMaps | None = None,
    height: int = HEIGHT,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Draw appearance and part maps beside the crops, one projection to colours for all of them (Figs. 4 and 7).

    shown: how many of the crops; the colours are fitted to all. joints: in place of the appearance, the parts that the
    joint maps alone would give (Fig. 5). against: the same crops' maps by another network, such as the non-negative
    variant; its colours are its own. Raises ShapeError.
    """
    if against is not None and against.crops != maps.crops:
        raise ShapeError("expected both networks' maps of the same crops, found others")
    first = {"joints": joint_parts(maps.joints)} if joints else {"appearance": maps.appearance}
    columns = first | {"parts": maps.parts}
    if against is not None:
        columns |= {"appearance 2": against.appearance, "parts 2": against.parts}
    crops = maps.crops[:shown]
    labels = ["" if crop.person is None else f"Person {crop.person}" for crop in crops]
    across = 2 if against is not None else 3
    return draw_stream_maps(maps.pictures[:shown], columns, labels=labels, across=across, height=height, theme=theme)


def _labels(row: str, maps: LocalMaps, places: np.ndarray, parts: np.ndarray) -> Labels:
    if row == "parts":
        return Labels("body part", parts, tuple(name for name in PARTS if name != "background"))
    names = list(dict.fromkeys(crop.person for crop in maps.crops if crop.person is not None))
    who = np.array([names.index(crop.person) if crop.person in names else -1 for crop in maps.crops])
    return Labels("person", np.where(parts < 0, -1, who[places[:, 0]]), tuple(map(str, names)))
