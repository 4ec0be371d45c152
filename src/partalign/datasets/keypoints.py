"""Body key points of crops: OpenPose's 18 joints and 19 limbs, and the files that they are read from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partalign.crops import Crop
from partalign.errors import AnnotationError, ShapeError
from partalign.files import atomic_file

JOINTS = (
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
    boxes: tuple[tuple[float, float, float, float] | None, ...]
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
