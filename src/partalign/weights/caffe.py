"""Caffe's weight files (.caffemodel) without Caffe: the few messages of caffe.proto that hold weights.

A file is one protobuf message. Only the wire format is read here, straight from a memory map: every length is checked
against the bytes that are there before anything is allocated, and each weight is copied once.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from partalign.errors import WeightsError
from partalign.weights.formats import in_one_line, kind_of_file

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

# Field numbers of caffe.proto. NetParameter: the layers; for each kind of layer, its name and its blobs.
_LAYERS = {2: (4, 6), 100: (1, 7)}  # `layers` of V1LayerParameter, `layer` of LayerParameter
_LEGACY_SHAPE, _DATA, _SHAPE, _DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8  # BlobProto
_DIM = 1  # BlobShape

_MOST_BLOBS = 5_000  # the deepest published nets have about 1,500
_MOST_DIMS = 32  # Caffe's own limit

Value = int | memoryview | bytes


class _DamagedError(Exception):
    """The bytes are not a Caffe model; becomes a WeightsError that names the file."""


def read_caffemodel(path: Path) -> dict[str, list[np.ndarray]]:
    """Read the weights of a .caffemodel: layer name -> its blobs, layers without blobs left out.

    V1 and current layers, legacy (num, channels, height, width) and current shapes, packed and unpacked values.
    Blobs are float32, or float64 where the file holds doubles. Raises WeightsError.
    """
    path = Path(path)
    kind = kind_of_file(path)
    try:
        if kind == "an empty file":
            raise _DamagedError("it is empty")
        with path.open("rb") as file:
            message = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        layers = _net(message)
    except _DamagedError as error:
        found = "" if kind == "an unknown kind of file" else f"found {kind}: "
        raise WeightsError(f"{path}: expected a Caffe model (.caffemodel), {found}{error}; download it again") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not layers:
        raise WeightsError(f"{path}: expected a Caffe model (.caffemodel), found no layer with weights in {kind}")
    return layers


def googlenet_tensors(blobs: Mapping[str, list[np.ndarray]], *, source: str) -> dict[str, torch.Tensor]:
    """Rename the layers of BVLC GoogLeNet, as read by `read_caffemodel`, to those of `model.appearance.GoogLeNet`.

    The classifiers (`loss1/...` to `loss3/...`) are left out. source: the file, for messages.
    Raises WeightsError where layers are missing, unknown, or are no convolutions.
    """
    layers = googlenet_layers()
    known = {caffe for caffe in blobs if not caffe.startswith("loss")}
    missing, extra = sorted(layers.keys() - known), sorted(known - layers.keys())
    if missing or extra:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {', '.join(in_one_line(name) for name in extra)}"] if extra else []
        raise WeightsError(f"{source}: expected the layers of BVLC GoogLeNet; {'; '.join(parts)}")
    tensors: dict[str, torch.Tensor] = {}
    for caffe, ours in layers.items():
        tensors |= convolution_tensors(caffe, ours, blobs[caffe], source=source)
    return tensors


def googlenet_layers() -> dict[str, str]:
    """Return Caffe's layer name -> ours, for the 57 convolutions of BVLC GoogLeNet."""
    layers = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2_reduce", "conv2/3x3": "conv2"}
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for caffe, ours in INCEPTION_BRANCHES.items():
            layers[f"inception_{module}/{caffe}"] = f"inception_{module}.{ours}"
    return layers


INCEPTION_BRANCHES = {
    "1x1": "one",
    "3x3_reduce": "three_reduce",
    "3x3": "three",
    "5x5_reduce": "five_reduce",
    "5x5": "five",
    "pool_proj": "pool_proj",
}
"""Caffe's name of a convolution in an inception module -> ours."""


def convolution_tensors(layer: str, ours: str, blobs: list[np.ndarray], *, source: str) -> dict[str, torch.Tensor]:
    """Make `{ours}.weight` and `{ours}.bias` of one layer's blobs; legacy biases (1, 1, 1, N) become (N,)."""
    shapes = [blob.shape for blob in blobs]
    if len(blobs) != 2 or blobs[0].ndim != 4 or blobs[1].shape[-1:] != (blobs[1].size,):
        raise WeightsError(
            f"{source}: layer {in_one_line(layer)}: expected a weight (N, C, h, w) and a bias, found {shapes}"
        )
    weight, bias = (torch.from_numpy(blob.astype(np.float32, copy=False)) for blob in blobs)
    return {f"{ours}.weight": weight, f"{ours}.bias": bias.reshape(-1)}


def _net(message: memoryview) -> dict[str, list[np.ndarray]]:
    layers: dict[str, list[np.ndarray]] = {}
    left = _MOST_BLOBS
    for number, wire, value in _fields(message):
        if number not in _LAYERS:
            continue
        name, blobs = _layer(_message(number, wire, value), *_LAYERS[number], most=left)
        left -= len(blobs)
        if name in layers and blobs:
            raise _DamagedError(f"two layers are called {in_one_line(name)}")
        if blobs:
            layers[name] = blobs
    return layers


def _layer(message: memoryview, name_field: int, blobs_field: int, *, most: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, wire, value in _fields(message):
        if number == name_field:
            try:
                name = bytes(_message(number, wire, value)).decode()
            except UnicodeDecodeError:
                raise _DamagedError("the name of a layer is not text") from None
        elif number == blobs_field:
            if len(blobs) == most:
                raise _DamagedError(f"more than {_MOST_BLOBS:,} blobs, no network has so many")
            blobs.append(_blob(_message(number, wire, value)))
    return name, blobs


def _blob(message: memoryview) -> np.ndarray:
    data = {_DATA: bytearray(), _DOUBLE_DATA: bytearray()}
    item = {_DATA: (_FOUR_BYTES, 4), _DOUBLE_DATA: (_EIGHT_BYTES, 8)}
    legacy, dims = dict.fromkeys(_LEGACY_SHAPE, 0), None
    has_legacy = False
    for number, wire, value in _fields(message):
        if number in data:
            single, size = item[number]
            if wire not in (single, _BYTES) or len(value) % size:  # type: ignore[arg-type]
                raise _DamagedError(f"the values of a blob are no whole number of {size}-byte floats")
            data[number] += value  # type: ignore[operator]
        elif number == _SHAPE:
            dims = _dims(_message(number, wire, value), dims or ())
        elif number in legacy:
            has_legacy = True
            legacy[number] = _whole(number, wire, value)
    shape = tuple(legacy.values()) if has_legacy else dims or ()
    return _shaped(data, shape)


def _shaped(data: dict[int, bytearray], shape: tuple[int, ...]) -> np.ndarray:
    values = np.frombuffer(data[_DOUBLE_DATA], "<f8") if data[_DOUBLE_DATA] else np.frombuffer(data[_DATA], "<f4")
    if not values.size:
        raise _DamagedError("a blob has no values")
    if len(shape) > _MOST_DIMS or math.prod(shape) != values.size:
        raise _DamagedError(f"a blob of shape {in_one_line(shape)} has {values.size:,} values")
    return values.reshape(shape)


def _dims(message: memoryview, before: tuple[int, ...]) -> tuple[int, ...]:
    dims = list(before)
    for number, wire, value in _fields(message):
        if number != _DIM:
            continue
        if wire == _BYTES:
            at, packed = 0, _message(number, wire, value)
            while at < len(packed) and len(dims) <= _MOST_DIMS:
                dim, at = _varint(packed, at)
                dims.append(dim)
        else:
            dims.append(_whole(number, wire, value))
        if len(dims) > _MOST_DIMS:
            raise _DamagedError(f"a blob has more than {_MOST_DIMS} dimensions")
    return tuple(dims)


def _message(number: int, wire: int, value: Value) -> memoryview:
    if wire != _BYTES or not isinstance(value, memoryview):
        raise _DamagedError(f"field {number} is of another type")
    return value


def _whole(number: int, wire: int, value: Value) -> int:
    if wire != _VARINT or not isinstance(value, int):
        raise _DamagedError(f"field {number} is of another type")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Yield (field number, wire type, value) of one message: int for varints, bytes for all else.

    Successive four- or eight-byte values of one field, which is how unpacked floats lie, come together in one piece.
    """
    at, most = 0, 1
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _DamagedError(f"field number {number} at byte {start:,} of a message")
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES:
            size, at = _varint(message, at)
            value, at = _take(message, at, size), at + size
        elif wire in _FIXED:
            _take(message, at, _FIXED[wire])
            records = _alike(message, start, at - start, at - start + _FIXED[wire], most)
            # Look further only while all looked at was alike: the work stays linear in the file's length.
            most = min(2 * most, 1 << 16) if len(records) == most else 1
            value, at = records[:, at - start :].tobytes(), start + records.size
        else:
            raise _DamagedError(f"wire type {wire} at byte {start:,} of a message")
        yield number, wire, value


def _alike(message: memoryview, at: int, tag: int, width: int, most: int) -> np.ndarray:
    """Return (n, width) bytes: up to `most` records from `at` on that begin with the same `tag` bytes."""
    count = min(most, (len(message) - at) // width)
    records = np.frombuffer(message, np.uint8, count * width, at).reshape(count, width)
    other = np.flatnonzero((records[:, :tag] != records[0, :tag]).any(axis=1))
    return records[: other[0]] if len(other) else records


def _take(message: memoryview, at: int, size: int) -> memoryview:
    if size > len(message) - at:
        raise _DamagedError(f"a field of {size:,} bytes where {len(message) - at:,} are left, cut short or damaged")
    return message[at : at + size]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number at `at` and the place after it: seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _DamagedError("it ends in the middle of a number, cut short or damaged")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise _DamagedError("a number of more than ten bytes")
