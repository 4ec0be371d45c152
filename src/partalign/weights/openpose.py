"""OpenPose's COCO body network, from Caffe (`pose_iter_440000.caffemodel`) or a PyTorch port (`body_pose_model.pth`).

Stages 1 and 2 are kept, under Caffe's layer names; stages 3 to 6 are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from partalign.errors import WeightsError
from partalign.weights.caffe import convolution_tensors, read_caffemodel
from partalign.weights.formats import in_one_line, kind_of_file
from partalign.weights.pytorch import read_pytorch, without_prefix

_LATER_STAGES = re.compile(r"Mconv\d_stage[3-6]_L[12]|model[3-6]_[12]")

# How the ports that keep layers in nn.Sequential blocks call the blocks; their layers are numbered.
BLOCKS: dict[str, list[str]] = {
    "model0": [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4"),
        *("conv4_1", "conv4_2", "conv4_3_CPM", "conv4_4_CPM"),
    ],
    "model1_1": [f"conv5_{i}_CPM_L1" for i in range(1, 6)],
    "model1_2": [f"conv5_{i}_CPM_L2" for i in range(1, 6)],
    "model2_1": [f"Mconv{i}_stage2_L1" for i in range(1, 8)],
    "model2_2": [f"Mconv{i}_stage2_L2" for i in range(1, 8)],
}


def read_openpose(path: Path) -> dict[str, Tensor]:
    """Read the layers of stages 1 and 2: 36 convolutions, `conv1_1.weight` ... `Mconv7_stage2_L2.bias`.

    Raises WeightsError, naming every layer that is missing, unknown or there twice.
    """
    path = Path(path)
    if kind_of_file(path) == "a PyTorch file":
        return openpose_tensors(read_pytorch(path), source=path)
    tensors: dict[str, Tensor] = {}
    for layer, blobs in read_caffemodel(path).items():
        tensors |= convolution_tensors(layer, layer, blobs, source=str(path))
    return openpose_tensors(tensors, source=path)


def openpose_tensors(tensors: Mapping[str, Tensor], *, source: Path) -> dict[str, Tensor]:
    """Pick stages 1 and 2 from a state dict: Caffe's layer names behind any prefix, or numbered layers of blocks."""
    named = without_prefix(tensors, source=source)
    numbered = _numbered_layers(named)
    layers = {layer for block in BLOCKS.values() for layer in block}
    found: dict[str, Tensor] = {}
    extra = []
    for name, tensor in named.items():
        before, _, kind = name.rpartition(".")
        layer = numbered.get(before, before.rpartition(".")[2])
        ours = f"{layer}.{kind}"
        if layer in layers and kind in ("weight", "bias") and ours not in found:
            found[ours] = tensor
        elif not _LATER_STAGES.search(name):
            extra.append(in_one_line(name))
    missing = [f"{layer}.{kind}" for layer in sorted(layers) for kind in ("weight", "bias")]
    missing = [name for name in missing if name not in found]
    if missing or extra:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown or there twice: {', '.join(extra)}"] if extra else []
        raise WeightsError(f"{source}: expected the layers of OpenPose's COCO body network; {'; '.join(parts)}")
    return found


def _numbered_layers(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Map `model1_1.4` and the like to Caffe's layer names: a block's layers come in the order of their numbers."""
    blocks: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch(r"(?:.*\.)?(model[012](?:_[12])?)\.(\d{1,3})\.(?:weight|bias)", name)
        if match and match[1] in BLOCKS:
            blocks.setdefault(match[1], {})[int(match[2])] = name.rpartition(".")[0]
    return {
        blocks[block][number]: layer
        for block, layers in BLOCKS.items()
        for number, layer in zip(sorted(blocks.get(block, {})), layers, strict=False)
    }
