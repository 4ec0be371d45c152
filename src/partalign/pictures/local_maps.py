"""Crops and what both streams say of every place in them: what the figures of local descriptors are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from partalign import progress
from partalign.crops import DISTRACTOR, JUNK, Crop
from partalign.datasets import load_dataset
from partalign.datasets.folder import find_crops
from partalign.embedding import Embedder
from partalign.engines import CPU_CHUNK
from partalign.errors import DatasetError, ShapeError, WeightsError
from partalign.images import read_picture, resize
from partalign.model.input import network_input
from partalign.weights.checkpoint import load_stream


@dataclass(frozen=True, eq=False)
class LocalMaps:
    """Crops, their pictures as they are on disk, and the maps of both streams.

    appearance: (N, C_a, h, w); parts: (N, C_p, h, w); joints: (N, J + 1, h', w'), the pose head's own maps, named by
    `joint_names`, the background last. Raises ShapeError where the numbers of pictures differ.
    """

    crops: tuple[Crop, ...]
    pictures: tuple[Image.Image, ...] = field(repr=False)
    appearance: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)
    joints: np.ndarray = field(repr=False)
    joint_names: tuple[str, ...]

    def __post_init__(self):
        counts = {len(self.crops), len(self.pictures), len(self.appearance), len(self.parts), len(self.joints)}
        if len(counts) > 1 or self.appearance.shape[2:] != self.parts.shape[2:]:
            shapes = ", ".join(str(maps.shape) for maps in (self.appearance, self.parts, self.joints))
            raise ShapeError(f"expected maps of {len(self.crops)} crops, both streams' of one size, found {shapes}")

    def __len__(self) -> int:
        return len(self.crops)


@torch.inference_mode()
def read_local_maps(embedder: Embedder, crops: Sequence[Crop], pose: Path | None = None) -> LocalMaps:
    """Run both streams over crops.

    pose: the file of a pre-trained part stream of the same kind, to take the joints from. Without it they come from
    the model's own, which may have moved away from joints since: training people's identities asks for no joints.
    Raises PictureError, and WeightsError for a network without a part stream or a `pose` that does not fit.
    """
    if embedder.network.parts is None:
        raise WeightsError("expected a network of two streams, found one without a part stream: choose another model")
    if not crops:
        raise DatasetError("expected at least one crop, found none: name pictures, or a data set with --data")
    stream = embedder.network.parts
    if pose is not None:
        stream = copy.deepcopy(stream)
        load_stream(stream, pose)
    pictures, found = [], []
    with progress.bar("maps", len(crops)) as advance:
        for start in range(0, len(crops), CPU_CHUNK):
            batch = [read_picture(crop.path) for crop in crops[start : start + CPU_CHUNK]]
            pixels = network_input(np.stack([resize(picture, embedder.input_size) for picture in batch]))
            pixels = pixels.to(embedder.device)
            joints = stream.stages(pixels)[0][-1].joints
            maps = (*embedder.network.maps(pixels), joints)
            found.append([array.float().cpu().numpy() for array in maps if array is not None])
            pictures += batch
            advance(len(batch))
    appearance, parts, joints = (np.concatenate(column) for column in zip(*found, strict=True))
    return LocalMaps(tuple(crops), tuple(pictures), appearance, parts, joints, stream.joint_names)


@dataclass(frozen=True)
class Choice:
    """Crops to show, those of a person one after the other, and more crops that colours are fitted to."""

    shown: tuple[Crop, ...]
    others: tuple[Crop, ...] = ()

    @property
    def crops(self) -> tuple[Crop, ...]:
        """All of them, the shown ones first."""
        return self.shown + self.others


def choose_crops(
    images: Sequence[Path] = (),
    *,
    dataset: str = "market1501",
    data: Path | None = None,
    persons: int = 4,
    each: int = 3,
    others: int = 0,
    seed: int = 0,
) -> Choice:
    """Choose what a figure shows: the pictures and folders named, or a data set's query and gallery crops.

    Pictures are all shown, in order, as long as they are not more than `persons * each`; from more, and from a data
    set, so many persons are drawn by lot, of each so many crops, from different cameras where there are. `others`: how
    many more crops are drawn. Raises DatasetError.
    """
    if bool(images) == (data is not None):
        raise DatasetError("expected either pictures (or folders of them), or --data DIR: give one of the two")
    if data is not None:
        split = load_dataset(dataset, data)
        crops = tuple(dict.fromkeys(split.query + split.gallery))
    else:
        crops = find_crops(images)
    draw = np.random.default_rng(seed)
    shown = crops if images and len(crops) <= persons * each else _by_person(crops, persons, each, draw)
    rest = [crop for crop in crops if crop not in set(shown)]
    more = draw.permutation(len(rest))[:others]
    return Choice(shown, tuple(rest[row] for row in more))


def _by_person(crops: Sequence[Crop], persons: int, each: int, draw: np.random.Generator) -> tuple[Crop, ...]:
    """Draw persons, and crops of each; crops of nobody known count as persons of one crop."""
    groups: dict[str, list[Crop]] = {}
    for crop in crops:
        if crop.person not in (JUNK, DISTRACTOR):
            groups.setdefault(crop.person or f"? {crop.path}", []).append(crop)
    if not groups:
        raise DatasetError(f"expected crops of persons, found {len(crops)} of nobody: choose other pictures")
    full = [group for group in groups.values() if len(group) >= each]
    if len(full) < persons:  # then those with the most crops
        full = sorted(groups.values(), key=len, reverse=True)[: persons if len(groups) < len(crops) else None]
        persons *= each if len(full) == len(crops) else 1
    chosen: list[Crop] = []
    for row in draw.permutation(len(full))[:persons]:
        chosen += _cameras_in_turn([full[row][k] for k in draw.permutation(len(full[row]))])[:each]
    return tuple(chosen)


def _cameras_in_turn(crops: Sequence[Crop]) -> list[Crop]:
    """Order crops so that each camera comes once before any comes again."""
    seen: dict[str | None, int] = {}
    turns = []
    for crop in crops:
        seen[crop.camera] = seen.get(crop.camera, 0) + 1
        turns.append(seen[crop.camera])
    return [crops[row] for row in np.argsort(turns, kind="stable")]
