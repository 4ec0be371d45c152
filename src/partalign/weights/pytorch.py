"""PyTorch's own files (.pth, .pt, .pth.tar): dictionaries of tensors, read without unpickling (see `pickles.py`)."""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partalign.errors import WeightsError
from partalign.weights.formats import in_one_line, kind_of_file
from partalign.weights.pickles import RefusedError, Storage, View, run_pickle

_MOST_DIMS = 32


def read_pytorch(path: Path) -> dict[Any, Any]:
    """Read a dictionary that `torch.save` wrote, today's or from before PyTorch 1.6.

    Returns tensors (on the CPU, memory-mapped), plain values, and dictionaries of these; what lies deeper is left out.
    Raises WeightsError where the file is damaged, no PyTorch file, or holds anything but tensors and plain values.
    """
    path = Path(path)
    kind = kind_of_file(path)
    if kind != "a PyTorch file":
        raise WeightsError(f"{path}: expected a PyTorch file (.pth), found {kind}: check the path or download it again")
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            return _read_zip(zipfile.ZipFile(file), data) if data[:2] == b"PK" else _read_legacy(data)
    except RefusedError as error:
        raise WeightsError(f"{path}: expected a PyTorch file of tensors, but it {error}; nothing was loaded") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        reason = in_one_line(error, 120)
        raise WeightsError(f"{path}: a damaged PyTorch file ({reason}): download it again") from None


def without_prefix(tensors: Mapping[Any, Any], *, source: Path, prefix: str = "module.") -> dict[str, Tensor]:
    """Return the tensors of a state dict, without the `module.` that data-parallel training leaves on names."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{source}: expected a dictionary of named tensors, found {type(value).__name__} in {in_one_line(name)}"
            )
        found[name.removeprefix(prefix)] = value
    return found


def _read_zip(archive: zipfile.ZipFile, data: memoryview) -> dict[Any, Any]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if sum(entry.file_size for entry in entries.values()) > len(data):
        raise RefusedError("is damaged or compressed: its parts are longer than the whole")
    programs = [name for name in entries if name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise RefusedError("has no data.pkl and is another kind of zip archive")
    root = programs[0].removesuffix("data.pkl")
    if root + "byteorder" in entries and _entry(entries[root + "byteorder"], data) != b"little":
        raise RefusedError("was written on a big-endian machine")

    def values(storage: Storage) -> memoryview:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            raise RefusedError(f"lacks the values {in_one_line(storage.key)}")
        return _entry(entry, data)

    program = _entry(entries[programs[0]], data)
    content, _ = run_pickle(bytes(program))
    return _filled(content, values)


def _entry(entry: zipfile.ZipInfo, data: memoryview) -> memoryview:
    """Return the bytes of one file of the archive in place; PyTorch stores them uncompressed."""
    header = entry.header_offset
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise RefusedError("is compressed or encrypted, which PyTorch's own files are not")
    if not 0 <= header <= len(data) - 30:
        raise RefusedError(f"is damaged in {in_one_line(entry.filename)}: download it again")
    name, extra = struct.unpack_from("<HH", data, header + 26)
    start = header + 30 + name + extra
    content = data[start : start + entry.file_size]
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise RefusedError(f"is damaged in {in_one_line(entry.filename)}: download it again")
    return content


def _read_legacy(data: memoryview) -> dict[Any, Any]:
    """Five pickles (magic number, version, machine, content, order of the storages), then the storages' bytes."""
    file: mmap.mmap = data.obj  # type: ignore[assignment]
    _, _, (machine, _), (content, storages), (keys, _) = (run_pickle(file) for _ in range(5))
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise RefusedError("was written on a big-endian machine")
    if not isinstance(keys, list):
        raise RefusedError("is damaged: download it again")
    place, at = {}, file.tell()
    for key in keys:
        (count,) = struct.unpack_from("<q", data, at)
        if not isinstance(key, str) or key not in storages or count != storages[key].length:
            raise RefusedError(f"is damaged in {in_one_line(key)}: download it again")
        place[key] = slice(at + 8, at + 8 + count * storages[key].dtype.itemsize)
        at = place[key].stop

    def values(storage: Storage) -> memoryview:
        if storage.key not in place:
            raise RefusedError(f"lacks the values {in_one_line(storage.key)}")
        return data[place[storage.key]]

    return _filled(content, values)


def _filled(content: Any, values: Callable[[Storage], memoryview]) -> dict[Any, Any]:
    """Put tensors in place of the Views of a dictionary and of the dictionaries in it, each filled once."""
    if not isinstance(content, dict):
        raise RefusedError(
            f"holds a {'tensor' if isinstance(content, View) else type(content).__name__}, no dictionary"
        )
    flat: dict[Storage, Tensor] = {}

    def fill(part: dict[Any, Any]) -> dict[Any, Any]:
        filled = {}
        for name, value in part.items():
            if isinstance(value, View):
                if value.storage not in flat:
                    flat[value.storage] = _flat(value.storage, values(value.storage))
                filled[name] = _tensor(value, flat[value.storage])
            elif not isinstance(value, dict):
                filled[name] = value
        return filled

    inner = {id(value): fill(value) for value in content.values() if isinstance(value, dict)}
    outer = fill(content)
    return {name: inner[id(value)] if isinstance(value, dict) else outer[name] for name, value in content.items()}


def _flat(storage: Storage, data: memoryview) -> Tensor:
    if len(data) != storage.length * storage.dtype.itemsize:
        raise RefusedError(f"has {len(data):,} bytes where {in_one_line(storage.length)} values are declared")
    if not storage.length:
        return torch.empty(0, dtype=storage.dtype)
    octets = torch.frombuffer(data, dtype=torch.uint8)
    if octets.data_ptr() % storage.dtype.itemsize:
        octets = octets.clone()
    return octets.view(storage.dtype)


def _tensor(view: View, flat: Tensor) -> Tensor:
    whole = all(isinstance(n, int) and n >= 0 for n in (view.offset, *view.size, *view.stride))
    few = len(view.size) == len(view.stride) <= _MOST_DIMS
    # A stride of zero lets a few bytes pass for any number of values, and whoever copies them pays.
    if not whole or not few or math.prod(view.size) > len(flat):
        raise RefusedError(f"has a tensor of shape {in_one_line(view.size)} in {len(flat):,} values")
    try:
        return flat.as_strided(view.size, view.stride, view.offset)
    except (RuntimeError, TypeError, OverflowError):
        raise RefusedError(f"has a tensor of shape {in_one_line(view.size)} outside its values") from None
