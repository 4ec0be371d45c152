"""Networks converted for the faster engines, and kept for the next time in the user's cache folder.

Each is an exported model (.onnx), named by the SHA-256 of what it was made from (the model's file, the network's code,
the versions of torch and its exporter), and by its own: one that is damaged is seen to be, and made again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache, cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from partalign.engines.base import ExportedName
from partalign.engines.exported import ExportedEngine
from partalign.errors import ExplanationError, SaveError, WeightsError
from partalign.files import atomic_file
from partalign.progress import bar, say
from partalign.weights.formats import sha256_of_file
from partalign.weights.info import require_safetensors
from partalign.weights.onnx import OnnxModel, parse_onnx

if TYPE_CHECKING:
    import torch

    from partalign.model.network import PartAlignedNetwork

KEPT = 8
"""Converted models that are kept at the most, those used last; each is about as large as its network in float32."""

_MADE_BY = ("torch", "onnxscript", "onnx")
_DIGITS = 16


class ConvertedEngine(ExportedEngine):
    """An engine that runs a network's file, converted.

    The network itself, for what looks into it, is loaded when it is first asked for.
    """

    def __init__(self, model: OnnxModel, name: ExportedName):
        super().__init__(model, name)
        self.check()

    @cached_property
    def network(self) -> PartAlignedNetwork:
        """The network in torch. Raises WeightsError, and ExplanationError where its file was replaced since."""
        from partalign.weights.checkpoint import load_model

        path, version = self.model.path, self.model.description["source"]["version"]
        if not path.is_file() or not sha256_of_file(path).startswith(version):
            raise ExplanationError(f"{path}: expected version {version}, which made the descriptors: start again")
        return load_model(path)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        import torch

        return torch.device("cpu")


def can_convert() -> bool:
    """Whether what makes an exported model of a network is installed."""
    return all(find_spec(name) is not None for name in _MADE_BY)


def start(path: Path, name: ExportedName, network: PartAlignedNetwork | None = None) -> ConvertedEngine:
    """Start an engine on a network's file, which is converted unless that is done already.

    network: the file's, where it has been loaded. Raises WeightsError where the engine cannot run it or does not agree
    with torch, MissingExtraError.
    """
    model = find(path)
    if model is None:
        with bar(f"converting {path.name}, once", 1) as advance:
            model = _convert(path, name, network)
            advance()
        _keep(model)
    return ConvertedEngine(model, name)


def is_kept(path: Path) -> bool:
    """Whether a network's file was converted before. Raises WeightsError."""
    return bool(_kept(path))


def find(path: Path) -> OnnxModel | None:
    """Return what a network's file was converted to before, if it is still there and sound. Raises WeightsError."""
    for kept in _kept(path):
        with suppress(OSError, WeightsError):
            content = kept.read_bytes()
            if kept.stem.endswith(_digest(content)):
                found = parse_onnx(path, content)
                with suppress(OSError):  # a cache that is only read, as of a container's image
                    os.utime(kept)  # it was used now
                return found
        with suppress(OSError):
            kept.unlink()
    return None


def cache_folder() -> Path:
    """Return where converted models are kept: $PARTALIGN_CACHE, else the user's cache folder of the system."""
    named = os.environ.get("PARTALIGN_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("partalign", appauthor=False)


def _kept(path: Path) -> list[Path]:
    require_safetensors(path)
    return list(cache_folder().glob(f"{_key(path)}-*.onnx"))


def _convert(path: Path, name: ExportedName, network: PartAlignedNetwork | None) -> OnnxModel:
    from partalign.engines.agreement import Reference
    from partalign.engines.conversion import to_onnx
    from partalign.engines.eager import NetworkEngine
    from partalign.weights.checkpoint import load_model

    network = load_model(path) if network is None else network
    model = to_onnx(network, path, path)
    full = ExportedEngine(model, "onnx" if name == "onnx" else "openvino")  # kept for all, so not held to bfloat16's
    Reference(NetworkEngine(network)).agreement(full).require(full, path, "take another --engine")
    return model


def _keep(model: OnnxModel) -> None:
    folder = cache_folder()
    try:
        with atomic_file(folder / f"{_key(model.path)}-{_digest(model.content)}.onnx") as file:
            file.write(model.content)
        by_use = sorted(folder.glob("*-*.onnx"), key=lambda path: -path.stat().st_mtime)
        for old in by_use[KEPT:]:
            old.unlink(missing_ok=True)
    except (SaveError, OSError) as error:
        say(f"the next start converts again: {error}")


def _key(path: Path) -> str:
    """Return what tells conversions apart."""
    return _digest("\n".join([sha256_of_file(path), _code(), *map(_version, _MADE_BY)]).encode())


@cache
def _code() -> str:
    """Return the digest of the code of the networks and of their conversion."""
    root = Path(__file__).parents[1]
    files = [root / "images.py", root / "engines/conversion.py", *sorted((root / "model").glob("*.py"))]
    return _digest(b"".join(file.read_bytes() for file in files))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
