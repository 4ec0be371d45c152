"""What a folder of shards is of: written before the first shard, and compared before any other is added."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from partalign.errors import ShardsError
from partalign.files import atomic_file

FORMAT = 1

Precision = Literal["float32", "float16"]
"""How the numbers of descriptors are stored; half precision halves the files and moves similarities by about 1e-4."""


@dataclass(frozen=True)
class Manifest:
    """Which crops, in how large shards, described by which network and how.

    source: the folder or table of the crops. list_sha256: of the list of crops. model, version: the network's name and
    that of its weights. dimension: numbers in a descriptor. engine: what was asked to run it, see `partalign engines`.
    """

    source: str
    crops: int
    list_sha256: str
    shard_size: int
    model: str
    version: str
    dimension: int
    engine: str
    flip: bool
    precision: Precision

    @property
    def shards(self) -> int:
        """How many shards there are when the job is done."""
        return -(-self.crops // self.shard_size)

    def write(self, file: Path) -> None:
        """Save as JSON, atomically. Raises SaveError."""
        with atomic_file(file) as out:
            out.write(json.dumps({"format": FORMAT, **asdict(self)}, indent=2).encode())

    def refuse_other(self, wanted: Manifest, folder: Path) -> None:
        """Raise ShardsError, saying what differs, where `wanted` is not the job that the shards in `folder` are of."""
        for field in fields(self):
            found, asked = getattr(self, field.name), getattr(wanted, field.name)
            if found != asked:
                raise ShardsError(
                    f"{folder}: holds shards of another {_CALLED.get(field.name, field.name)} ({found}, now {asked}): "
                    "ask for the same as before, or choose another --out"
                )


_CALLED = {
    "crops": "list of crops: the number of them",
    "list_sha256": "list of crops: its SHA-256",
    "shard_size": "size",
    "version": "version of the model",
    "dimension": "length of descriptors",
}


def read_manifest(file: Path) -> Manifest:
    """Read what `Manifest.write` wrote. Raises ShardsError where it is missing, damaged or of a newer format."""
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ValueError("not a manifest of shards")
        if content.pop("format") > FORMAT:
            raise ShardsError(f"{file}: written by a newer partalign: install that to read the shards")
        manifest = Manifest(**content)
        for field in fields(Manifest):
            kind = {"str": str, "int": int, "bool": bool}.get(str(field.type), str)
            if type(getattr(manifest, field.name)) is not kind:
                raise ValueError(f"{field.name} is of another kind")
        if manifest.crops < 1 or manifest.shard_size < 1 or manifest.precision not in ("float32", "float16"):
            raise ValueError("numbers out of range")
    except FileNotFoundError:
        raise ShardsError(f"{file}: expected shards made by `partalign embed-many`, found no such file") from None
    except (OSError, ValueError, TypeError) as error:
        raise ShardsError(f"{file}: cannot be read as a manifest of shards ({str(error)[:100]}): embed again") from None
    return manifest
