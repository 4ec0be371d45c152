"""Which body part a place belongs to, from the joint maps of a pose network. Arrays only; knows no network.

A joint (`joints.find_joints`) is believed in by c = min(1, 2 max), of its map. A body part is a set of bones,
segments between joints, so that a shin belongs to the legs although no joint lies on it. A bone from i to j, r thick on
either side (a share of the crop's height, by part), answers at a place that is g high and at distance d from the
segment by how much of the place it covers:

    min(c_i, c_j) clip((r - d) / g + 1/2, 0, 1)

A part answers with its strongest bone. The strongest part's answer m says how much of the place is the person; the
parts share m in proportion to their answers, and 1 - m is background.
"""

from __future__ import annotations

import numpy as np

from partalign.model.joints import find_joints

PARTS = ("head", "torso", "arms", "legs", "feet", "background")
"""The body parts that a place is shared out among."""

_HALF_WIDTHS = {"head": 0.07, "torso": 0.065, "arms": 0.035, "legs": 0.055, "feet": 0.045}
_SIDES = ("right", "left")
# "crown" and "toe" are made from joints: the head goes on above the face, and the foot below the ankle.
_BONES: dict[str, tuple[tuple[str, str], ...]] = {
    "head": (("face", "crown"),),
    "torso": (
        *(("neck", f"{side} hip") for side in _SIDES),
        *((f"{side} shoulder", f"{side} hip") for side in _SIDES),
        ("right shoulder", "left shoulder"),
    ),
    "arms": tuple(
        bone for s in _SIDES for bone in ((f"{s} shoulder", f"{s} elbow"), (f"{s} elbow", f"{s} wrist"))
    ),
    "legs": tuple(bone for s in _SIDES for bone in ((f"{s} hip", f"{s} knee"), (f"{s} knee", f"{s} ankle"))),
    "feet": tuple((f"{s} ankle", f"{s} toe") for s in _SIDES),
}  # fmt: skip
_FACE = ("head", "nose", "right eye", "left eye", "right ear", "left ear")


def assign_places(
    joint_maps: np.ndarray, names: tuple[str, ...], size: tuple[int, int], aspect: float = 0.5
) -> np.ndarray:
    """Share every place out among the body parts, by the module's formula.

    joint_maps: (J + 1, h, w), 1 at a joint, with the background last; names: of the channels, as in
    `parts.OPENPOSE_JOINTS` or `parts.RCPM_JOINTS`. size: (h', w') of the places, of whatever resolution. aspect: the
    crop's width over its height. Returns (6, h', w') float64 in 0..1 that sums to 1 at every place.
    """
    joints = _with_ends(_believed(joint_maps, names[:-1], aspect))
    height, width = size
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width * aspect, indexing="ij")
    places = np.stack([x, y], axis=-1)
    answers = np.stack(
        [
            np.max([_answer(joints[a], joints[b], places, half_width) for a, b in _BONES[part]], axis=0)
            for part, half_width in _HALF_WIDTHS.items()
        ]
    )
    person = answers.max(axis=0)
    shares = answers * (person / np.maximum(answers.sum(axis=0), 1e-12))
    return np.concatenate([shares, np.maximum(0, 1 - shares.sum(axis=0, keepdims=True))])


def _believed(maps: np.ndarray, names: tuple[str, ...], aspect: float) -> dict[str, np.ndarray]:
    """(J + 1, h, w) -> name: (x, y, how much it is believed in); both coordinates in heights of the crop."""
    found = find_joints(maps) * (aspect, 1, 2)
    found[:, 2] = np.clip(found[:, 2], 0, 1)
    return dict(zip(names, found, strict=True))


def _with_ends(joints: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add the points that are no joints: the face (the mean of what is seen of it), the crown, the toes."""
    seen = np.stack([joints[name] for name in _FACE if name in joints])
    face = np.append(seen[:, 2] @ seen[:, :2] / max(seen[:, 2].sum(), 1e-12), seen[:, 2].max())
    ends = {"face": face, "crown": _beyond(joints["neck"], face, 0.4)}
    for side in _SIDES:
        ends[f"{side} toe"] = _beyond(joints[f"{side} knee"], joints[f"{side} ankle"], 0.25)
    return joints | ends


def _beyond(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Return the point past `end`, coming from `start`; it is believed in as `end` is."""
    return np.append(end[:2] + share * (end[:2] - start[:2]), end[2])


def _answer(start: np.ndarray, end: np.ndarray, places: np.ndarray, half_width: float) -> np.ndarray:
    """(h, w): how a bone answers at every place."""
    along = end[:2] - start[:2]
    share = np.clip((places - start[:2]) @ along / max(along @ along, 1e-12), 0, 1)
    distance = np.linalg.norm(places - start[:2] - share[..., None] * along, axis=-1)
    return min(start[2], end[2]) * np.clip((half_width - distance) * len(places) + 0.5, 0, 1)
