"""The authors' released checkpoints (2019): `{'app_state_dict', 'part_state_dict', 'epoch'}` of PyTorch 0.4.

They hold no sketch hashes, which the code drew anew from fixed seeds, and do not say whether the network was dilated.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from partalign.errors import WeightsError
from partalign.model.network import NetworkSettings
from partalign.weights.caffe import INCEPTION_BRANCHES
from partalign.weights.formats import in_one_line
from partalign.weights.pytorch import read_pytorch, without_prefix

_ADDED = {"input_feat": "feature", "pose1": "feature", "bn": "norm"}
_STEM = {"conv1__7x7_s2": "conv1", "conv2__3x3_reduce": "conv2_reduce", "conv2__3x3": "conv2"}


def official_settings(*, dilation: bool = True, nonnegative: bool = False) -> NetworkSettings:
    """Return the network of the released code. Its published configuration is dilated and without the last ReLU."""
    choices = {"affine": False, "lrn": "released", "part_input": "released", "hashes": "released"}
    return NetworkSettings(dilation=dilation, nonnegative=nonnegative, **choices)


def read_official(path: Path) -> dict[str, Tensor]:
    """Read a released checkpoint under the names of `PartAlignedNetwork`, without the pooling's hashes.

    Raises WeightsError where the file is damaged or no such checkpoint. Whether the tensors fit is checked on loading.
    """
    path = Path(path)
    content = read_pytorch(path)
    tensors: dict[str, Tensor] = {}
    for key, stream, rename in (
        ("app_state_dict", "appearance", _appearance_name),
        ("part_state_dict", "parts", _parts_name),
    ):
        part = content.get(key)
        if not isinstance(part, dict):
            found = ", ".join(in_one_line(name, 40) for name in list(content)[:5])
            raise WeightsError(
                f"{path}: expected a released checkpoint with app_state_dict and part_state_dict, found keys {found}: "
                "for an OpenPose port use `partalign convert openpose`"
            )
        for name, tensor in without_prefix(part, source=path).items():
            tensors[f"{stream}.{rename(name)}"] = tensor
        # PyTorch 0.4.0 did not count batches; the count plays no part in the output.
        tensors.setdefault(f"{stream}.norm.num_batches_tracked", torch.zeros((), dtype=torch.long))
    return tensors


def _appearance_name(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    inception = re.fullmatch(r"(inception_\d\w)\._?(\w+)", layer)
    if inception and inception[2] in INCEPTION_BRANCHES:
        layer = f"{inception[1]}.{INCEPTION_BRANCHES[inception[2]]}"
    return f"{_STEM.get(layer) or _ADDED.get(layer, layer)}.{kind}"


def _parts_name(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{_ADDED.get(layer, layer)}.{kind}"
