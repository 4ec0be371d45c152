"""int8: an exported model whose convolutions compute in 8 bits, calibrated on crops, its loss measured.

Weights get one scale for each output channel, maps one for each layer, wide enough for every value met in calibration:
cutting off so much as one value in a hundred thousand did harm. Three things keep the descriptors right (LOG.md):

* the first convolution of the appearance stream stays float: its values reach thousands where most are below a hundred,
  and the normalisation after it needs the small ones; so do the sums of squares inside the normalisations;
* what the rounding of its weights adds to a channel on average is taken out of the bias (Nagel et al. 2019);
* a ReLU behind a concatenation goes before it, so that no bits are spent on negative values.

The layout is ONNX's QDQ form, standard operators only: ONNX Runtime and OpenVINO each make 8-bit kernels of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partalign import progress
from partalign.crops import Crop, Embeddings, Split
from partalign.embedding import Embedder
from partalign.engines import Engine
from partalign.engines.agreement import Agreement
from partalign.engines.conversion import OPSET, describe
from partalign.engines.eager import NetworkEngine
from partalign.engines.exported import ExportedEngine
from partalign.errors import WeightsError
from partalign.evaluation.evaluate import score
from partalign.evaluation.protocols import named
from partalign.evaluation.scores import Scores
from partalign.export import exported_model, save_onnx
from partalign.images import network_values, read_batch
from partalign.processors import thread_count
from partalign.weights.checkpoint import load_model
from partalign.weights.onnx import OnnxModel, import_onnx, parse_onnx, probe_pixels, probe_text

CALIBRATED, COMPARED, FEWEST = 256, 100, 20
"""Crops to calibrate on and others to compare on, at most; and how many must be given. From 64 crops to 256 the least
cosine on 1,595 others rose from 0.9958 to 0.9989, from 256 to 500 it did not."""

_BATCH = 8
_ADVICE = "not written; calibrate on crops of the same cameras, or stay with float32"


@dataclass(frozen=True)
class Int8Report:
    """How an int8 model does: on the crops that it was calibrated on, on others, and float32's and int8's scores there.

    scores: None without crops of named persons to score on.
    """

    calibrated: Agreement
    unseen: Agreement
    scores: tuple[Scores, Scores] | None = None


def export_int8(
    model: str | Path | None,
    target: Path,
    crops: Sequence[Crop],
    *,
    preprocessing: bool = False,
    opset: int = OPSET,
    check: Split | None = None,
) -> Int8Report:
    """Write a model as ONNX with its convolutions in 8 bits, calibrated on crops; as `export.export_onnx` otherwise.

    check: further crops to compare on, scored where their persons are known. Refused is a model of which more than one
    crop in twenty that it was not calibrated on comes out below a cosine of 0.999: that is what the worst of sound ones
    do on single odd crops, while a layer out of range shows in most. Raises WeightsError, PictureError, DatasetError,
    SaveError, MissingExtraError.
    """
    calibrated, others = divided(crops)
    reference = exported_model(model, target, preprocessing=preprocessing, opset=opset)[0]
    pixels = read_batch([crop.path for crop in calibrated], reference.input_size)
    graph = import_onnx(target).ModelProto.FromString(reference.content)
    graph = quantized(graph, pixels if reference.takes_pixels else network_values(pixels))
    after = ExportedEngine(_described(graph, target, reference.description), "onnx")
    report = _report(NetworkEngine(load_model(model)), after, calibrated, others, check)
    figures = {"calibrated": asdict(report.calibrated), "unseen": asdict(report.unseen)}
    probe = probe_text(after(probe_pixels(reference.input_size)))
    exported = _described(graph, target, {**reference.description, "int8": figures, "probe": probe})
    engine = ExportedEngine(exported, "onnx")
    engine.check()
    report.unseen.require(engine, target, _ADVICE)
    save_onnx(exported)
    return report


def quantized(graph: Any, inputs: np.ndarray) -> Any:
    """Return an exported graph with its convolutions in 8 bits.

    graph: a ModelProto in float32. inputs: what it takes, (N, 3, H, W) float32 or (N, H, W, 3) uint8, of N crops.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quant_utils, quantize_static

    graph = type(graph).FromString(graph.SerializeToString())
    _rectify_before_concatenation(graph)
    left = _float_convolutions(graph)
    _correct_biases(graph, [node for node in _of_type(graph, "Conv") if node.name not in left], inputs)
    quant_utils.add_pre_process_metadata(graph)  # else it advises, on standard error, what the exporter has done
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            written,
            _Batches(graph.graph.input[0].name, inputs),  # type: ignore[arg-type]
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu", "MaxPool", "Concat"],
            nodes_to_exclude=left,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = type(graph).FromString(written.read_bytes())
    del result.metadata_props[:]
    return result


class _Batches:
    """The inputs a few at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, inputs: np.ndarray):
        self.name, self.parts = name, _parts(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self.parts, None)
        return None if part is None else {self.name: part}


def _parts(inputs: np.ndarray) -> Iterator[np.ndarray]:
    return (inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH))


def _of_type(graph: Any, kind: str) -> list[Any]:
    return [node for node in graph.graph.node if node.op_type == kind]


def _float_convolutions(graph: Any) -> list[str]:
    """Return the names of the convolutions that stay float: of squares, and the first of the appearance stream."""
    squares = {node.output[0] for node in _of_type(graph, "Mul") if node.input[0] == node.input[1]}
    convolutions = _of_type(graph, "Conv")
    first = next(node for node in convolutions if "appearance." in node.input[1])
    return [node.name for node in convolutions if node.input[0] in squares or node is first]


def _rectify_before_concatenation(graph: Any) -> None:
    """Relu(Concat(a, b)) -> Concat(Relu(a), Relu(b)): the same values."""
    from onnx import helper

    nodes = graph.graph.node
    makers = {name: node for node in nodes for name in node.output}
    users = [name for node in nodes for name in node.input]
    for relu in _of_type(graph, "Relu"):
        joined = makers.get(relu.input[0])
        if joined is None or joined.op_type != "Concat" or users.count(relu.input[0]) > 1:
            continue
        place = list(nodes).index(joined)
        for position, name in enumerate(list(joined.input)):
            joined.input[position] = f"{name}_rectified"
            nodes.insert(place, helper.make_node("Relu", [name], [f"{name}_rectified"], name=f"{name}_relu"))
        joined.output[0] = relu.output[0]
        nodes.remove(relu)


def _correct_biases(graph: Any, convolutions: Sequence[Any], inputs: np.ndarray) -> None:
    """Subtract from every bias what the rounding of the weights adds on average over the inputs."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in convolutions:
        if len(node.input) == 2:  # none so far
            node.input.append(f"{node.input[1]}_bias")
            zeros = np.zeros(held[node.input[1]].dims[0], np.float32)
            graph.graph.initializer.append(numpy_helper.from_array(zeros, node.input[2]))
            held[node.input[2]] = graph.graph.initializer[-1]
    means = _means(graph, {node.input[0] for node in convolutions}, inputs)
    for node in convolutions:
        weights = numpy_helper.to_array(held[node.input[1]])
        steps = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
        steps[steps == 0] = 1
        added = (np.round(weights / steps) * steps - weights).sum((2, 3)) @ means[node.input[0]]
        bias = numpy_helper.to_array(held[node.input[2]]) - added
        held[node.input[2]].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))


def _means(graph: Any, names: set[str], inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return the mean (C,) of every channel of these maps over the inputs and their places."""
    import onnxruntime
    from onnx import ValueInfoProto

    watched = type(graph).FromString(graph.SerializeToString())
    given, maps = graph.graph.input[0].name, sorted(names - {graph.graph.input[0].name})
    watched.graph.output.extend(ValueInfoProto(name=name) for name in maps)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: dict[str, Any] = dict.fromkeys(names, 0)
    with progress.bar("calibrating", len(inputs)) as advance:
        for part in _parts(inputs):
            found = dict(zip(maps, session.run(maps, {given: part}), strict=True)) | {given: part}
            for name in names:
                sums[name] = sums[name] + np.asarray(found[name]).mean((2, 3), dtype=np.float64).sum(0)
            advance(len(part))
    return {name: total / len(inputs) for name, total in sums.items()}


def _described(graph: Any, target: Path, description: Mapping[str, Any]) -> OnnxModel:
    describe(graph, description)
    return parse_onnx(target, graph.SerializeToString())


def divided(crops: Sequence[Crop]) -> tuple[list[Crop], list[Crop]]:
    """Draw crops to calibrate on, and others to compare on: three quarters and one quarter where there are few."""
    if len(crops) < FEWEST:
        raise WeightsError(
            f"expected at least {FEWEST} crops to calibrate on, better {CALIBRATED + COMPARED}, found {len(crops)}: "
            "give a folder with more, of the cameras that the model is for"
        )
    drawn = [crops[row] for row in np.random.default_rng(0).permutation(len(crops))]
    compared = min(COMPARED, len(crops) // 4)
    return drawn[compared : compared + CALIBRATED], drawn[:compared]


def _report(
    before: Engine, after: Engine, calibrated: Sequence[Crop], others: Sequence[Crop], check: Split | None
) -> Int8Report:
    tests = () if check is None else (*check.query, *check.gallery)
    crops = list(dict.fromkeys((*calibrated, *others, *tests)))
    both = [Embedder(engine).embed(crops, "comparing") for engine in (before, after)]
    known = np.isin([str(crop.path) for crop in crops], [str(crop.path) for crop in calibrated])
    own, unseen = (
        Agreement.of(*(side.select(np.flatnonzero(rows)).vectors for side in both)) for rows in (known, ~known)
    )
    scores = None if check is None or not check.query else (_scores(both[0], check), _scores(both[1], check))
    return Int8Report(own, unseen, scores)


def _scores(embeddings: Embeddings, check: Split) -> Scores:
    rows = {crop: row for row, crop in enumerate(embeddings.crops)}
    query, gallery = (embeddings.select([rows[crop] for crop in side]) for side in (check.query, check.gallery))
    return score(query, gallery, named(check.protocol), test_sets=check.test_sets)
