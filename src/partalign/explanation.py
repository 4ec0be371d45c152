"""Why two pictures match: their similarity as a sum over places, over pairs of places, and over body parts.

A descriptor is a sum of one vector for each place (`model.places`), then normalised. The similarity of two pictures is
thus the sum of the inner products of all pairs of such vectors (eq. 8-9), to the last digit: for the full outer
product, for its sketch, and for the baselines. Computed in float64 on the CPU from the network's maps; knows nothing
of drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from partalign.crops import Crop
from partalign.embedding import Embedder
from partalign.engines import CPU_CHUNK
from partalign.errors import ExplanationError, PictureError, WeightsError
from partalign.images import read_picture, resize
from partalign.model.body_parts import PARTS, assign_places
from partalign.model.input import network_input
from partalign.model.network import PartAlignedNetwork
from partalign.model.parts import LightParts, OpenPose, PartStream, ReducedPose
from partalign.model.places import Factors, inner_products, place_factors, to_unit_length
from partalign.weights.checkpoint import load_model, load_stream, read_checkpoint
from partalign.weights.shipped import find_model

Picture = str | Path | Crop | Image.Image | np.ndarray


class Pair(NamedTuple):
    """A place (row, column) in each of two pictures, and what the two together add to the score."""

    a: tuple[int, int]
    b: tuple[int, int]
    contribution: float


@dataclass(frozen=True, eq=False)
class Described:
    """A picture as its places: describe a query once, compare it with every result.

    factors: the places' vectors, scaled so that their sum, the descriptor, has unit length (eq. 4); S places seen n
    times (2 with the mirrored crop) are n S rows.
    size: (h, w) of the places. weights: (6, h, w), how much each place belongs to each of `body_parts.PARTS`, or None.
    """

    factors: Factors
    size: tuple[int, int]
    weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the similarity of two pictures, A and B, comes from; every breakdown sums to the score.

    pairs: (h, w, h', w') float64, what each place of A with each place of B adds to the score.
    weights: how much each place belongs to each body part, (6, h, w) and (6, h', w'); None without a part stream.
    """

    pairs: np.ndarray
    weights: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def score(self) -> float:
        """The similarity: the inner product of the two unit descriptors, -1 to 1."""
        return float(self.pairs.sum())

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """What each place of A (h, w) and each place of B (h', w') adds to the score; each map sums to it."""
        return self.pairs.sum((2, 3)), self.pairs.sum((0, 1))

    @cached_property
    def table(self) -> np.ndarray:
        """(6, 6): what each body part of A with each body part of B adds to the score. Raises ExplanationError."""
        if self.weights is None:
            raise ExplanationError(
                "expected a network with a part stream to name body parts by, found none: give a pose network (pose=, "
                "--pose), or look at places only"
            )
        a, b = (weights.reshape(len(PARTS), -1) for weights in self.weights)
        return a @ self.pairs.reshape(a.shape[1], b.shape[1]) @ b.T

    @cached_property
    def parts(self) -> dict[str, float]:
        """What each body part adds to the score: the mean of what it adds in A and in B. Raises ExplanationError."""
        values = (self.table.sum(axis=1) + self.table.sum(axis=0)) / 2
        return dict(zip(PARTS, values.tolist(), strict=True))

    def strongest(self, count: int = 10, *, distinct: bool = True) -> list[Pair]:
        """Return the pairs that add most to the score, strongest first; none that adds nothing or takes away.

        distinct: each place is in one pair at most, else two regions that match fill the list with their neighbours.
        """
        shape, flat, found = self.pairs.shape, self.pairs.ravel(), []
        used: tuple[set, set] = (set(), set())
        for index in np.argsort(-flat, kind="stable"):
            if len(found) >= count or flat[index] <= 0:
                break
            y, x, v, u = (int(i) for i in np.unravel_index(index, shape))
            if distinct and ((y, x) in used[0] or (v, u) in used[1]):
                continue
            used[0].add((y, x))
            used[1].add((v, u))
            found.append(Pair((y, x), (v, u), float(flat[index])))
        return found

    def sentence(self, probability: float | None = None) -> str:
        """Say in one or two plain sentences what the score comes from.

        probability: of the same person; decides between "similar" and "not very similar" where it is known, else a
        score of one half does.
        """
        similar = self.score >= 0.5 if probability is None else probability >= 0.5
        if self.weights is None:
            lead = "Similar" if similar else "Not very similar"
            return f"{lead}; which body parts make it so is not known without a part stream (pose=, --pose)."
        return _in_words(self.score, self.parts, similar)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the matrix of all pairs, for JSON."""
        content: dict[str, Any] = {"score": self.score, "maps": [places.tolist() for places in self.maps]}
        content["pairs"] = [pair._asdict() for pair in self.strongest()]
        if self.weights is not None:
            content |= {"parts": self.parts, "table": self.table.tolist(), "sentence": self.sentence()}
        return content


def explain(
    model: Embedder | PartAlignedNetwork, a: Picture, b: Picture, *, pose: PartStream | None = None
) -> Explanation:
    """Explain why two pictures are as similar as they are.

    a, b: paths, crops, Pillow pictures or arrays (H, W, 3), uint8, RGB. pose: a pose network that says which place is
    which body part, in place of the model's own part stream. Raises PictureError, ExplanationError.
    """
    return compare(*describe(model, (a, b), pose=pose))


def explain_results(
    model: Embedder | PartAlignedNetwork, query: Picture, results: Sequence[Picture], *, pose: PartStream | None = None
) -> list[Explanation]:
    """Explain a query's similarity (as A) to each of its results (as B); no picture passes the network twice."""
    first, *others = describe(model, (query, *results), pose=pose)
    return [compare(first, other) for other in others]


@torch.inference_mode()
def describe(
    model: Embedder | PartAlignedNetwork, pictures: Sequence[Picture], *, pose: PartStream | None = None
) -> list[Described]:
    """Run the network over pictures, ready to be compared. A network is put into evaluation mode.

    Of an `Embedder` with `flip`, a place also holds what the mirrored crop shows there. Raises PictureError,
    ExplanationError.
    """
    embedder = model if isinstance(model, Embedder) else Embedder(model, device=next(model.parameters()).device)
    network = embedder.network
    pose = None if pose is None else pose.eval().to(embedder.device)
    pixels = np.stack([_pixels(picture, network.input_size) for picture in pictures])
    described: list[Described] = []
    for batch in network_input(pixels).split(CPU_CHUNK if embedder.device.type == "cpu" else embedder.batch):
        batch = batch.to(embedder.device)
        appearance, parts, joints, names = _maps(network, batch, pose)
        views = [(appearance, parts)]
        if embedder.flip:
            mirrored = network.maps(batch.flip(3))
            views.append(tuple(None if maps is None else maps.flip(3) for maps in mirrored))  # type: ignore[arg-type]
        size: tuple[int, int] = tuple(appearance.shape[2:])  # type: ignore[assignment]
        for row in range(len(batch)):
            factors = _joined([to_unit_length(place_factors(network.pooling, *_row(view, row))) for view in views])
            aspect = network.input_size[1] / network.input_size[0]
            heat = None if joints is None else joints[row].float().cpu().numpy()
            weights = None if heat is None else assign_places(heat, names, size, aspect)
            described.append(Described(factors, size, weights))
    return described


def compare(a: Described, b: Described) -> Explanation:
    """Explain the similarity of two described pictures: the products of all their places (eq. 8-9)."""
    pairs = inner_products(a.factors, b.factors)
    places = a.size[0] * a.size[1], b.size[0] * b.size[1]
    # The views of one place, plain and mirrored, are one place.
    pairs = pairs.view(-1, places[0], pairs.shape[1] // places[1], places[1]).sum((0, 2))
    weights = None if a.weights is None or b.weights is None else (a.weights, b.weights)
    return Explanation(pairs.view(*a.size, *b.size).numpy(), weights)


def load_pose(pose: str | Path) -> PartStream:
    """Load a pose network that names places: made by `pretrain-parts`, `convert openpose`, or a model's own.

    Re-identification training may bend a model's own joint maps until they find no joints. Raises WeightsError.
    """
    path = find_model(pose)
    _, description = read_checkpoint(path)
    if description.get("kind") == "network":
        stream = load_model(path).parts
    else:
        streams = {"openpose": OpenPose, "rcpm": ReducedPose, "light": LightParts}
        stream = streams[kind]() if (kind := str(description.get("stream"))) in streams else None
        if stream is not None:
            load_stream(stream, path)
    if not isinstance(stream, PartStream):
        raise WeightsError(f"{path}: expected a pose network (openpose, rcpm or light), found none; give another file")
    return stream.eval()


def _joined(views: list[Factors]) -> Factors:
    return to_unit_length(tuple(torch.cat(same) for same in zip(*views, strict=True))) if len(views) > 1 else views[0]


def _row(view: tuple[Tensor, Tensor | None], row: int) -> tuple[Tensor, Tensor | None]:
    return view[0][row], None if view[1] is None else view[1][row]


def _maps(
    network: PartAlignedNetwork, batch: Tensor, pose: PartStream | None
) -> tuple[Tensor, Tensor | None, Tensor | None, tuple[str, ...]]:
    """Return appearance maps, part maps, joint maps and the joints' names; the part stream runs once."""
    if pose is not None:
        return *network.maps(batch), pose.stages(batch)[0][-1].joints, pose.joint_names
    if not isinstance(network.parts, PartStream):
        return *network.maps(batch), None, ()
    stages, internal = network.parts.stages(batch)
    joints, names = stages[-1].joints, network.parts.joint_names
    return network.appearance(batch), network.parts.part_maps(stages[-1], internal), joints, names


def _pixels(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise PictureError(
                f"expected a picture (H, W, 3), uint8, RGB, found an array {picture.shape}, {picture.dtype}; convert it"
            )
        picture = Image.fromarray(picture)
    elif not isinstance(picture, Image.Image):
        picture = read_picture(picture.path if isinstance(picture, Crop) else picture)
    return resize(picture.convert("RGB"), size)


def _in_words(score: float, parts: dict[str, float], similar: bool) -> str:
    """One sentence: what is behind the score, what speaks against it; a second where much of it is no person."""
    # Shares of all that speaks for a match: those of the score itself could be above one.
    for_it = max(sum(value for value in parts.values() if value > 0), 1e-12)
    shares = sorted(((value / for_it, name) for name, value in parts.items()), reverse=True)
    large = [(share, name) for share, name in shares if share >= 0.15]
    speaking = _and([f"the {name} ({share:.0%})" for share, name in large[:3]])
    against = [name for share, name in reversed(shares) if share <= -0.03][:3]
    if score < 0.1:
        words = "Hardly similar at all"
    elif similar:
        words = f"Similar mostly because of {speaking}"
    else:
        words = f"Not very similar; what there is comes mostly from {speaking}"
    if against:
        plural = len(against) > 1 or against[0].endswith("s") or against[0] == "feet"
        words += f"; the {_and(against)} speak{'' if plural else 's'} against it"
    if score >= 0.1 and parts["background"] > for_it / 3:
        words += ". Much of it is background, not the person"
    return words + "."


def _and(words: list[str]) -> str:
    return "".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"
