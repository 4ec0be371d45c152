"""Body key points of crops: OpenPose's 18 joints and 19 limbs, and the files that they are read from."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from partalign.crops import Crop
from partalign.datasets import folder as own_folder
from partalign.datasets import market1501
from partalign.errors import AnnotationError, ShapeError
from partalign.files import atomic_file

JOINTS: tuple[str, ...] = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip",
    "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)  # fmt: skip
"""OpenPose's joints, in the order of its heat maps (channel 18 is the background)."""

LIMBS = tuple(
    (JOINTS.index(a), JOINTS.index(b))
    for a, b in (
        ("Neck", "RHip"), ("RHip", "RKnee"), ("RKnee", "RAnkle"), ("Neck", "LHip"), ("LHip", "LKnee"),
        ("LKnee", "LAnkle"), ("Neck", "RShoulder"), ("RShoulder", "RElbow"), ("RElbow", "RWrist"),
        ("RShoulder", "REar"), ("Neck", "LShoulder"), ("LShoulder", "LElbow"), ("LElbow", "LWrist"),
        ("LShoulder", "LEar"), ("Neck", "Nose"), ("Nose", "REye"), ("Nose", "LEye"), ("REye", "REar"), ("LEye", "LEar"),
    )
)  # fmt: skip
"""OpenPose's limbs (from joint, to joint): limb k has the channels 2k (x) and 2k + 1 (y) of the limb maps."""

MIRROR = tuple(
    JOINTS.index({"R": "L", "L": "R"}[name[0]] + name[1:]) if name[0] in "RL" else JOINTS.index(name) for name in JOINTS
)
"""The joint that each joint becomes in a mirrored picture: left and right change sides."""

CSV_SIZE = (128, 64)
"""Height and width of the pictures whose pixels a key-point CSV counts in."""

COCO_JOINTS: tuple[str, ...] = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow",
    "LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)  # fmt: skip
"""COCO's joints in COCO's order, under OpenPose's names; the neck is not among them."""

Box = tuple[float, float, float, float]

_HEADER = "name:keypoints_y:keypoints_x"
_LINE = re.compile(r"(?P<name>[^:/\\]+): *\[(?P<y>[^\[\]]*)\] *: *\[(?P<x>[^\[\]]*)\]")


@dataclass(frozen=True)
class PoseExamples:
    """Crops with key points, to train the part stream from.

    boxes: for each crop None (the whole picture) or (left, top, width, height) in pixels of the picture, to be cut out.
    joints: (N, 18, 3) float32: x and y as fractions of the crop's width and height (0 is the left or upper edge of the
    first pixel, 1 the right or lower edge of the last), and 1 where the joint is known, else 0 with x = y = 0.
    notes: what was left out, and why. Raises ShapeError where the numbers of rows differ.
    """

    paths: tuple[Path, ...]
    boxes: tuple[Box | None, ...]
    joints: np.ndarray
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        expected = (len(self.paths), len(JOINTS), 3)
        if self.joints.shape != expected or len(self.boxes) != len(self.paths):
            raise ShapeError(
                f"expected joints {expected} and as many boxes, found {self.joints.shape}, {len(self.boxes)}"
            )

    def __len__(self) -> int:
        return len(self.paths)


def mirror(joints: np.ndarray) -> np.ndarray:
    """Joints (..., 18, 3) as fractions -> the joints of the mirrored picture: x becomes 1 - x, left and right swap."""
    mirrored = joints[..., MIRROR, :].copy()
    mirrored[..., 0] = np.where(mirrored[..., 2] > 0, 1 - mirrored[..., 0], 0)
    return mirrored


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Read a key-point CSV: file name -> (18, 3) float32: x, y in pixels of a 128 x 64 picture, 1 where found, else 0.

    Its lines read `NAME: [18 numbers, y]: [18 numbers, x]` below the header `name:keypoints_y:keypoints_x`; -1 is a
    joint that was not found (x, y and flag are 0 here). Raises AnnotationError with the line number where it reads
    otherwise.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: expected a key-point CSV, cannot read it: {error}") from None
    if not lines or lines[0].strip() != _HEADER:
        found = repr(lines[0][:60]) if lines else "an empty file"
        raise AnnotationError(f"{path}: expected the header {_HEADER!r}, found {found}; give a key-point CSV")
    joints: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            name, values = _parse_line(line)
            if name in joints:
                raise ValueError(f"a second line for {name}")
        except ValueError as error:
            raise AnnotationError(
                f"{path}, line {number}: expected `NAME: [18 y]: [18 x]`, found {error}; correct or remove the line"
            ) from None
        joints[name] = values
    return joints


def write_csv(path: Path, joints: Mapping[str, np.ndarray]) -> None:
    """Write what `read_csv` reads, atomically; coordinates keep two decimals. Raises SaveError."""
    lines = [_HEADER]
    for name, values in joints.items():
        x, y = (np.where(values[:, 2] > 0, values[:, axis].round(2), -1).tolist() for axis in (0, 1))
        lines.append(f"{name}: [{', '.join(f'{v:g}' for v in y)}]: [{', '.join(f'{v:g}' for v in x)}]")
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def examples_from_csv(path: Path, crops: Iterable[Crop]) -> PoseExamples:
    """Join a key-point CSV with the crops of the same file names; crops without key points are left out and counted.

    Raises AnnotationError where the file cannot be read or names none of the crops.
    """
    table = read_csv(path)
    crops = tuple(crops)
    known = [crop.path for crop in crops if crop.path.name in table]
    if not known:
        raise AnnotationError(
            f"{path}: expected key points of {len(crops)} crops, found none of their names; give its data"
        )
    pixels = np.stack([table[file.name] for file in known])
    height, width = CSV_SIZE
    # A joint lies in the middle of its pixel.
    joints = (pixels + np.array([0.5, 0.5, 0])) / (width, height, 1) * pixels[..., 2:]
    missing = len(crops) - len(known)
    notes = (f"{missing:,} of {len(crops):,} crops have no key points in {Path(path).name}",) if missing else ()
    return PoseExamples(tuple(known), (None,) * len(known), joints.astype(np.float32), notes)


def load_examples(path: Path, folder: Path) -> PoseExamples:
    """Read key points and the crops or pictures in `folder` that they belong to: a key-point CSV, or COCO's JSON.

    Of a folder in Market-1501's layout only the training crops are taken: the test persons stay unseen. Raises
    AnnotationError, or DatasetError where the folder holds no crops.
    """
    if Path(path).suffix.lower() == ".json":
        return read_coco(path, folder)
    crops = market1501.load(folder).train if market1501.is_here(folder) else own_folder.find_crops([folder])
    return examples_from_csv(path, crops)


def read_coco(path: Path, folder: Path, *, min_joints: int = 5, min_height: float = 64.0) -> PoseExamples:
    """Read COCO's `person_keypoints_*.json` (Lin et al. 2014); `folder` holds the pictures.

    Each box is made twice as high as wide, like a person crop, as far as the picture allows. The neck is the middle of
    the shoulders where both are known. A joint that is marked but hidden counts as known. Left out and counted in
    `notes`: crowds, persons with fewer than `min_joints` joints or lower than `min_height` pixels, missing pictures.
    Raises AnnotationError where the file is not of that kind, or nothing is left.
    """
    pictures, annotations = _read_coco_file(path)
    left_out: Counter[str] = Counter()
    kept: list[tuple[Path, Box, np.ndarray]] = []
    for number, annotation in enumerate(annotations):
        try:
            picture = pictures[annotation["image_id"]]
            box, joints = _from_coco(annotation, picture)
            file = _inside(folder, picture["file_name"])
            reason = _why_not(annotation, box, joints, min_joints, min_height)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise AnnotationError(
                f"{path}: expected COCO person key points, found in annotation {number} (from 0) "
                f"{type(error).__name__} {error}; give person_keypoints_*.json"
            ) from None
        if reason is None and not file.is_file():
            reason = "picture missing"
        if reason is None:
            kept.append((file, box, joints))
        else:
            left_out[reason] += 1
    notes = tuple(f"{count:,} of {len(annotations):,} persons left out: {why}" for why, count in left_out.items())
    if not kept:
        raise AnnotationError(f"{path}: expected persons with pictures in {folder}, {'; '.join(notes) or 'found none'}")
    files, boxes, joints = zip(*kept, strict=True)
    return PoseExamples(files, boxes, np.stack(joints), notes)


def _read_coco_file(path: Path) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    try:
        content = json.loads(Path(path).read_bytes())
        pictures = {picture["id"]: picture for picture in content["images"]}
        return pictures, [a for a in content["annotations"] if "keypoints" in a]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnnotationError(
            f"{path}: expected COCO person key points (JSON with images and annotations), found "
            f"{type(error).__name__} {error}; give person_keypoints_*.json"
        ) from None


def _from_coco(annotation: dict[str, Any], picture: dict[str, Any]) -> tuple[Box, np.ndarray]:
    """Return the box to cut, whole pixels inside the picture, and the joints (18, 3) as fractions of it."""
    points = np.array(annotation["keypoints"], np.float64)
    if points.shape != (3 * len(COCO_JOINTS),) or not np.isfinite(points).all():
        raise ValueError(f"{points.size} numbers, or not finite ones, for {len(COCO_JOINTS)} joints")
    left, top, right, bottom = _crop_edges(annotation["bbox"], picture["width"], picture["height"])
    named = dict(zip(COCO_JOINTS, points.reshape(-1, 3), strict=True))
    right_shoulder, left_shoulder = named["RShoulder"], named["LShoulder"]
    both = right_shoulder[2] > 0 and left_shoulder[2] > 0
    named["Neck"] = (right_shoulder + left_shoulder) / 2 if both else np.zeros(3)
    joints = np.stack([named[name] for name in JOINTS])
    x = (joints[:, 0] + 0.5 - left) / max(right - left, 1)
    y = (joints[:, 1] + 0.5 - top) / max(bottom - top, 1)
    known = (joints[:, 2] > 0) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    joints = np.stack([x, y, np.ones_like(x)], axis=1) * known[:, None]
    return (left, top, right - left, bottom - top), joints.astype(np.float32)


def _crop_edges(bbox: list[float], width: int, height: int) -> tuple[int, int, int, int]:
    left, top, box_width, box_height = map(float, bbox)
    grow_x = max(0.0, box_height / 2 - box_width) / 2
    grow_y = max(0.0, box_width * 2 - box_height) / 2
    return (
        max(math.floor(left - grow_x), 0),
        max(math.floor(top - grow_y), 0),
        min(math.ceil(left + box_width + grow_x), int(width)),
        min(math.ceil(top + box_height + grow_y), int(height)),
    )


def _why_not(
    annotation: dict[str, Any], box: Box, joints: np.ndarray, min_joints: int, min_height: float
) -> str | None:
    if annotation.get("iscrowd"):
        return "crowd"
    if annotation["bbox"][3] < min_height:
        return f"lower than {min_height:g} pixels"
    if min(box[2:]) <= 0:
        return "box outside the picture"
    # The neck is made up here: it does not count.
    found = int(joints[:, 2].sum() - joints[JOINTS.index("Neck"), 2])
    return f"fewer than {min_joints} joints" if found < min_joints else None


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"a picture outside the folder: {name!r}")
    return Path(folder) / pure


def _parse_line(line: str) -> tuple[str, np.ndarray]:
    found = _LINE.fullmatch(line.strip())
    if not found:
        raise ValueError(repr(line[:60]))
    height, width = CSV_SIZE
    x, y = _numbers(found["x"], width), _numbers(found["y"], height)
    if ((x == -1) != (y == -1)).any():
        raise ValueError("a joint with only one of x and y")
    visible = (x != -1).astype(np.float32)
    return found["name"].strip(), np.stack([x * visible, y * visible, visible], axis=1)


def _numbers(text: str, limit: int) -> np.ndarray:
    numbers = np.array([float(word) for word in text.split(",")], np.float32)
    if len(numbers) != len(JOINTS):
        raise ValueError(f"{len(numbers)} numbers")
    if not ((numbers == -1) | ((numbers >= 0) & (numbers <= limit))).all():
        raise ValueError(f"a number outside 0 to {limit}")
    return numbers
