"""Our own weight files: one .safetensors file whose header also holds, as JSON, what the tensors are.

One file, so that weights and description cannot part and one rename replaces both. Description: {"format": 1,
"kind": "network" | "stream", ...}; a network has "network", its NetworkSettings; a stream has "stream",
"googlenet" | "openpose". Loading is strict, and nothing here runs code from a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from partalign.errors import RecipeError, WeightsError
from partalign.files import atomic_file, check_ending
from partalign.model.appearance import GoogLeNet
from partalign.model.device import checked_device
from partalign.model.network import NetworkSettings, PartAlignedNetwork, build_network
from partalign.model.parts import OpenPose
from partalign.weights.caffe import googlenet_tensors, read_caffemodel
from partalign.weights.formats import in_one_line, sha256_of_file
from partalign.weights.info import FORMAT, damaged, parse_description, require_safetensors
from partalign.weights.official import official_settings, read_official
from partalign.weights.openpose import read_openpose
from partalign.weights.shipped import find_model

Kind = Literal["caffe", "openpose", "official"]

_ADDED = ("feature.", "norm.")  # the layers that the paper adds to a pre-trained stream
_SMALL = 1 << 24  # values; a network of this size is built without asking whether its file can fill it


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and their description to one file, atomically. Raises SaveError.

    tensors: any device and memory layout, shared ones too (each is written in full).
    description: JSON values; "format" is added.
    """
    contiguous = torch.contiguous_format
    plain = {name: tensor.detach().cpu().clone(memory_format=contiguous) for name, tensor in tensors.items()}
    content = save(plain, {"partalign": json.dumps({"format": FORMAT, **description})})
    with atomic_file(path) as file:
        file.write(content)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote: tensors (on the CPU, memory-mapped) and description. Raises WeightsError."""
    path = Path(path)
    require_safetensors(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise damaged(path, error) from None
    return tensors, parse_description(path, metadata)


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    may_lack: tuple[str, ...] = (),
    may_add: tuple[str, ...] = (),
) -> None:
    """Load tensors into a module, all or none.

    may_lack: prefixes of names that may be missing (they keep their values); may_add: that are ignored if there.
    Tensors are cast to the module's types. Raises WeightsError, naming every tensor that is missing, extra, of another
    shape, or not finite, and leaves the module as it was.
    """
    fitting = fit(module, tensors, source=source, may_lack=may_lack, may_add=may_add)
    module.load_state_dict(fitting, strict=False)


def fit(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    may_lack: tuple[str, ...] = (),
    may_add: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Return `tensors` as `module` would hold them, without loading them; else like `load_strictly`."""
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors and not name.startswith(may_lack)]
    extra = [name for name in tensors if name not in expected and not name.startswith(may_add)]
    shared = [name for name in expected if name in tensors]
    misshapen = [
        f"{name} (expected {tuple(expected[name].shape)}, found {tuple(tensors[name].shape)})"
        for name in shared
        if expected[name].shape != tensors[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(in_one_line(name, 200) for name in names)}"
        for what, names in (("missing", missing), ("extra", extra), ("of another shape", misshapen))
        if names
    ]
    if not problems:
        fitting = {name: tensors[name].to(expected[name].dtype) for name in shared}
        broken = [name for name in shared if not _sound(tensors[name], fitting[name])]
        if not broken:
            return fitting
        problems.append(f"{len(broken)} not finite or of another type: {', '.join(broken)}")
    raise WeightsError(f"{source}: does not fit the network ({type(module).__name__}); {'; '.join(problems)}")


def load_stream(stream: nn.Module, path: Path) -> None:
    """Load a converted GoogLeNet or OpenPose into a stream; its added layers keep their values. Raises WeightsError."""
    tensors, description = read_checkpoint(path)
    if description.get("kind") != "stream":
        raise WeightsError(
            f"{path}: expected the weights of one stream, found a {in_one_line(description.get('kind'))}: "
            "make them with `partalign convert caffe` or `partalign convert openpose`"
        )
    # GoogLeNet is stored to its end; the paper's stream stops at inception 4e.
    load_strictly(stream, tensors, source=path, may_lack=_ADDED, may_add=("inception_5a.", "inception_5b."))


def load_model(model: str | Path | None = None, device: torch.device | str = "cpu") -> PartAlignedNetwork:
    """Build a trained network, in evaluation mode: of a file, a shipped model's name, or None for the default one.

    Raises WeightsError, DeviceError.
    """
    path, device = find_model(model), checked_device(device)
    tensors, description = read_checkpoint(path)
    settings = _settings(path, description)
    if _values_of_widest_layer(settings) > _SMALL + sum(tensor.numel() for tensor in tensors.values()):
        raise WeightsError(f"{path}: describes a larger network than it holds: copy the file again")
    try:
        network = build_network(settings)
    except RecipeError as error:
        raise WeightsError(f"{path}: describes no network of ours: {error}") from None
    load_strictly(network, tensors, source=path)
    return network.to(device).eval()


def convert(
    kind: Kind, source: Path, target: Path, *, dilation: bool = True, nonnegative: bool = False
) -> dict[str, Any]:
    """Turn a public weight file into one of ours and return its description.

    kind: "caffe" (BVLC GoogLeNet) and "openpose" give a stream, "official" (the authors' checkpoints) a network;
    dilation, nonnegative: of the official network, which its weights do not tell. Raises WeightsError, SaveError.
    """
    source, target = Path(source), check_ending(target, ".safetensors")
    if kind == "official":
        settings = official_settings(dilation=dilation, nonnegative=nonnegative)
        network = build_network(settings)
        load_strictly(network, read_official(source), source=source, may_lack=("pooling.",))
        tensors = network.state_dict()
        what: dict[str, Any] = {"kind": "network", "network": settings.model_dump()}
    elif kind == "caffe":
        stream: nn.Module = GoogLeNet("5b", channels=None)
        tensors = fit(stream, googlenet_tensors(read_caffemodel(source), source=str(source)), source=source)
        what = {"kind": "stream", "stream": "googlenet"}
    elif kind == "openpose":
        stream = OpenPose()
        tensors = fit(stream, read_openpose(source), source=source, may_lack=_ADDED)
        what = {"kind": "stream", "stream": "openpose"}
    else:
        raise WeightsError(f'expected a kind of weights "caffe", "openpose" or "official", found "{kind}"')
    description = {"format": FORMAT, **what, "source": source.name, "sha256": sha256_of_file(source)}
    save_checkpoint(target, tensors, description)
    return description


def _settings(path: Path, description: Mapping[str, Any]) -> NetworkSettings:
    if description.get("kind") != "network" or not isinstance(description.get("network"), dict):
        raise WeightsError(
            f"{path}: expected a whole network, found a {in_one_line(description.get('kind'))}: "
            "train one from it with `partalign train`"
        )
    try:
        settings = NetworkSettings(**description["network"])
    except ValidationError as error:
        first = error.errors()[0]
        reason = in_one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)
        raise WeightsError(f"{path}: describes no network of ours: {reason}") from None
    return settings


def _values_of_widest_layer(s: NetworkSettings) -> int:
    """Return a bound for what building allocates at once; the product of the channels is the sketch's table of bins."""
    linear = s.pooling in ("concat", "average", "stripes")
    stripes = s.stripes if s.pooling == "stripes" else 1
    channels = max(s.appearance_channels, 1024) * stripes + s.part_channels
    return channels * max(s.dimension if linear else s.part_channels, 2048)


def _sound(stored: Tensor, cast: Tensor) -> bool:
    """Whether a tensor survived the cast: floats stay floats, all of them finite."""
    if stored.is_floating_point() != cast.is_floating_point():
        return False
    return not cast.is_floating_point() or bool(torch.isfinite(cast).all())
