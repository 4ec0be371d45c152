"""Exported models (.onnx): what they say of themselves, read without trust. `partalign.export` writes them.

The metadata entry `partalign` of the file is JSON: {"format": 1, "kind": "exported", "input": "pictures" | "pixels",
"source": {"name", "version"}, "probe": ..., and what the model's own file says: "network", "results", "calibration",
"trained"}; an int8 model has "int8", too: how it agreed with float32 when it was made. Only what arithmetic needs is
accepted: an ONNX file can also name other files to read, bring control flow and ask for operators of other makers, and
such a file is refused before any engine sees it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partalign.errors import MissingExtraError, WeightsError
from partalign.weights.formats import in_one_line, kind_of_file

FORMAT = 1
PICTURES, PIXELS = "pictures", "pixels"
"""Kinds of input: that of `images.network_values`, (B, 3, H, W) float32, or crops as they are, (B, H, W, 3) uint8."""

_PROBES, _BLOCK = 2, 16  # pictures; side of their blocks, pixels


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An exported model that was found sound. content: the whole file; size: (H, W); channels: of a descriptor."""

    path: Path
    content: bytes
    description: Mapping[str, Any]
    input_size: tuple[int, int]
    channels: int

    @property
    def takes_pixels(self) -> bool:
        """Whether preprocessing is inside."""
        return self.description["input"] == PIXELS

    @property
    def is_int8(self) -> bool:
        """Whether its convolutions compute in 8 bits."""
        return "int8" in self.description

    @property
    def probe(self) -> np.ndarray:
        """(2, D): what the float32 network, or the int8 model, made of `probe_pixels` when it was exported.

        Raises WeightsError.
        """
        try:
            values = np.frombuffer(base64.b64decode(self.description["probe"], validate=True), np.float16)
            return values.reshape(_PROBES, self.channels).astype(np.float32)
        except (KeyError, TypeError, ValueError):
            raise WeightsError(f"{self.path}: the descriptors to check it by are damaged: export it again") from None


def probe_pixels(size: tuple[int, int]) -> np.ndarray:
    """Return two pictures of coloured blocks, (2, H, W, 3) uint8, the same on every machine and in all versions."""
    rows, columns = (-(-side // _BLOCK) for side in size)
    # The legacy generator: its numbers are promised never to change.
    blocks = np.random.RandomState(0).randint(0, 256, (_PROBES, rows, columns, 3)).astype(np.uint8)
    return blocks.repeat(_BLOCK, 1).repeat(_BLOCK, 2)[:, : size[0], : size[1]]


def probe_text(descriptors: np.ndarray) -> str:
    """Turn the descriptors (2, D) of `probe_pixels` into the text of a description."""
    return base64.b64encode(descriptors.astype(np.float16).tobytes()).decode()


def read_onnx(path: Path) -> OnnxModel:
    """Read an exported model. Raises WeightsError, and MissingExtraError where onnx is not installed."""
    path = Path(path)
    kind = kind_of_file(path)
    if kind == "an unknown kind of file" or path.suffix != ".onnx":
        try:
            return parse_onnx(path, path.read_bytes())
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror or error}): check its permissions") from None
    raise WeightsError(f"{path}: expected an exported model (.onnx), found {kind}: check the path or copy it again")


def parse_onnx(path: Path, content: bytes) -> OnnxModel:
    """Check the bytes of an exported model; path: of the file, for messages. As `read_onnx`."""
    onnx = import_onnx(path)
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise WeightsError(f"{path}: a damaged ONNX file: copy it again") from None
    found = {entry.key: entry.value for entry in model.metadata_props}
    if "partalign" not in found:
        raise WeightsError(
            f"{path}: expected a model exported by partalign, found an ONNX file of another program, or a damaged one: "
            "make one with `partalign export`"
        )
    description = _description(path, found["partalign"])
    for message in messages(model):
        _refuse(path, onnx, message)
    size, channels = _shapes(path, model.graph, description)
    return OnnxModel(path, content, description, size, channels)


def messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all in it."""
    from google.protobuf.message import Message

    yield message
    for _, value in message.ListFields():
        if isinstance(value, Message):
            yield from messages(value)
        elif not isinstance(value, str | bytes | int | float):
            for child in value:
                if not isinstance(child, Message):
                    break  # numbers or text, all of them
                yield from messages(child)


def import_onnx(path: Path) -> Any:
    """Return the `onnx` package. Raises MissingExtraError."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError(f'{path}: exported models need onnx: pip install "partalign[onnx]"') from None
    return onnx


def _description(path: Path, text: str) -> dict[str, Any]:
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise WeightsError(f"{path}: its description is damaged: copy the file again")
    if description.get("format") != FORMAT or description.get("kind") != "exported":
        found = in_one_line(description.get("format"))
        raise WeightsError(f"{path}: expected format {FORMAT}, found {found}: install a newer partalign to read it")
    source = description.get("source")
    sound = description.get("input") in (PICTURES, PIXELS) and isinstance(description.get("network"), dict)
    if (
        not sound
        or not isinstance(source, dict)
        or not all(isinstance(source.get(k), str) for k in ("name", "version"))
    ):
        raise WeightsError(f"{path}: its description lacks its input, network or source: export it again")
    return description


def _refuse(path: Path, onnx: Any, message: Any) -> None:
    """Raise WeightsError where one message asks for more than arithmetic on what the file holds."""
    found = None
    if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
        found = f"a tensor in another file ({in_one_line([entry.value for entry in message.external_data][:1])})"
    elif isinstance(message, onnx.AttributeProto) and (message.HasField("g") or message.graphs):
        found = "control flow"
    elif isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
        found = f"an operator of {in_one_line(message.domain)}"
    elif isinstance(message, onnx.FunctionProto | onnx.TrainingInfoProto):
        found = "a function or training of its own"
    if found is not None:
        raise WeightsError(f"{path}: expected plain layers only, found {found}: refused; export the model again")


def _shapes(path: Path, graph: Any, description: Mapping[str, Any]) -> tuple[tuple[int, int], int]:
    """Return (H, W) of the input and D of the output, which must be those of the description."""
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*inputs, *graph.output)]
    size = [description["network"].get(side) for side in ("height", "width")]
    expected = [0, *size, 3] if description["input"] == PIXELS else [0, 3, *size]
    if len(inputs) != 1 or len(shapes) != 2 or shapes[0] != expected or len(shapes[1]) != 2 or shapes[1][1] < 1:
        raise WeightsError(
            f"{path}: expected input (batch, {expected[1:]}) and output (batch, D), as it says of itself, found shapes "
            f"{in_one_line(shapes)}: export the model again"
        )
    return (size[0], size[1]), shapes[1][1]
