"""PyTorch's own files (.pth, .pt, .pth.tar): dictionaries of tensors, read without unpickling.

Such a file is a pickle, that is a program. The few instructions that `torch.save` writes for a state dict are carried
out here one by one, each with a bounded cost; every other instruction is refused. (`torch.load(weights_only=True)` runs
no code either, but a file of some hundred bytes can make it allocate gigabytes.)
"""

from __future__ import annotations

import math
import mmap
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partalign.errors import WeightsError
from partalign.weights.formats import in_one_line, kind_of_file

_DTYPES = {
    "torch BFloat16Storage": torch.bfloat16,
    "torch BoolStorage": torch.bool,
    "torch ByteStorage": torch.uint8,
    "torch CharStorage": torch.int8,
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch ShortStorage": torch.int16,
}
_CALLS = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
}
_PUSHES = (
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}  # the last two from Python 2
)
_MAKES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_INSTRUCTIONS = 1_000_000  # about forty for each tensor
_MOST_DIMS = 32


class _RefusedError(Exception):
    """The file is damaged or asks for more than tensors; becomes a WeightsError that names the file."""


class _Name(NamedTuple):
    """Something of Python's or PyTorch's that the pickle names; never looked up."""

    path: str


class _Storage(NamedTuple):
    """A run of values elsewhere in the file."""

    key: str
    dtype: torch.dtype
    length: int


class _View(NamedTuple):
    """A tensor: where its values lie in a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


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
    except _RefusedError as error:
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
    programs = [name for name in entries if name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise _RefusedError("has no data.pkl and is another kind of zip archive")
    root = programs[0].removesuffix("data.pkl")
    if root + "byteorder" in entries and _entry(entries[root + "byteorder"], data) != b"little":
        raise _RefusedError("was written on a big-endian machine")

    def values(storage: _Storage) -> memoryview:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            raise _RefusedError(f"lacks the values {in_one_line(storage.key)}")
        return _entry(entry, data)

    program = _entry(entries[programs[0]], data)
    return _filled(_run(bytes(program)), values)


def _entry(entry: zipfile.ZipInfo, data: memoryview) -> memoryview:
    """Return the bytes of one file of the archive in place; PyTorch stores them uncompressed."""
    header = entry.header_offset
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise _RefusedError("is compressed or encrypted, which PyTorch's own files are not")
    name, extra = struct.unpack_from("<HH", data, header + 26)
    start = header + 30 + name + extra
    content = data[start : start + entry.file_size]
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise _RefusedError(f"is damaged in {in_one_line(entry.filename)}: download it again")
    return content


def _read_legacy(data: memoryview) -> dict[Any, Any]:
    """Five pickles (magic number, version, machine, content, order of the storages), then the storages' bytes."""
    file: mmap.mmap = data.obj  # type: ignore[assignment]
    _, _, machine, content, keys = (_run(file) for _ in range(5))
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise _RefusedError("was written on a big-endian machine")
    if not isinstance(keys, list):
        raise _RefusedError("is damaged: download it again")
    place, at = {}, file.tell()
    sizes = {view.storage.key: view.storage.dtype.itemsize for view in _views(content)}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, at)
        if not isinstance(key, str) or key not in sizes or count < 0:
            raise _RefusedError(f"is damaged in {in_one_line(key)}: download it again")
        place[key] = slice(at + 8, at + 8 + count * sizes[key])
        at = place[key].stop

    def values(storage: _Storage) -> memoryview:
        if storage.key not in place:
            raise _RefusedError(f"lacks the values {in_one_line(storage.key)}")
        return data[place[storage.key]]

    return _filled(content, values)


def _run(program: Any) -> Any:
    """Carry out one pickle, of bytes or at a file's place: plain values and dictionaries, a _View for each tensor."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    steps = 0
    try:
        for instruction, argument, _ in pickletools.genops(program):
            steps += 1
            if steps > _MOST_INSTRUCTIONS:
                raise _RefusedError("holds too many objects for a state dict")
            if instruction.name != "STOP":
                _step(instruction.name, argument, stack, marks, memo)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its pickle makes no sense, {type(error).__name__}") from None
    if len(stack) != 1:
        raise ValueError("its pickle makes no sense")
    return stack[0]


def _step(name: str, argument: Any, stack: list[Any], marks: list[int], memo: dict[int, Any]) -> None:
    if name in _PUSHES:
        stack.append(argument)
    elif name in _MAKES:
        stack.append(_MAKES[name]())
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "MARK":
        marks.append(len(stack))
    elif name in _TUPLES:
        stack.append(tuple(_pop(stack, len(stack) - _TUPLES[name])))
    elif name == "TUPLE":
        stack.append(tuple(_pop(stack, marks.pop())))
    elif name in ("SETITEM", "SETITEMS"):
        _set_items(_pop(stack, len(stack) - 2 if name == "SETITEM" else marks.pop()), stack[-1])
    elif name in ("APPEND", "APPENDS"):
        items = _pop(stack, len(stack) - 1 if name == "APPEND" else marks.pop())
        list.extend(stack[-1], items)
    elif name == "GLOBAL":
        if argument not in _DTYPES and argument not in _CALLS:
            raise _RefusedError(
                f"holds more than tensors ({in_one_line(argument.replace(' ', '.'))}), which may be code"
            )
        stack.append(_Name(argument))
    elif name == "BINPERSID":
        stack.append(_storage(*stack.pop()))
    elif name == "REDUCE":
        arguments = stack.pop()
        stack.append(_call(stack.pop(), arguments))
    elif name == "BUILD":
        stack.pop()  # attributes of an OrderedDict: the versions of the modules
    elif name != "PROTO":
        raise _RefusedError(f"holds more than tensors (pickle instruction {name})")


def _pop(stack: list[Any], start: int) -> list[Any]:
    if start < 0:
        raise IndexError
    items = stack[start:]
    del stack[start:]
    return items


def _set_items(items: list[Any], target: dict[Any, Any]) -> None:
    keys = items[::2]
    # Other keys would be hashed, and the hash of a deeply nested tuple exhausts the stack.
    if not all(isinstance(key, str | int) for key in keys):
        raise _RefusedError("has keys that are no names")
    dict.update(target, zip(keys, items[1::2], strict=True))


def _storage(kind: str, dtype: _Name, key: str, device: str, count: int, *_: Any) -> _Storage:  # noqa: ARG001
    if kind != "storage" or not isinstance(key, str) or not isinstance(count, int):
        raise TypeError
    return _Storage(key, _DTYPES[dtype.path], count)


def _call(function: _Name, arguments: tuple[Any, ...]) -> Any:
    match function.path.rpartition(" ")[2], arguments:
        case "OrderedDict", ():
            return {}
        case "_rebuild_parameter", (_View() as view, *_):
            return view
        case "_rebuild_tensor" | "_rebuild_tensor_v2", (_Storage() as storage, int(), tuple(), tuple(), *_):
            return _View(storage, *arguments[1:4])
    raise _RefusedError(f"holds more than tensors (a call of {in_one_line(function.path)})")


def _views(content: Any) -> list[_View]:
    """List the tensors of a dictionary and of the dictionaries in it, each of which is looked at once."""
    inner = {id(value): value for value in content.values() if isinstance(value, dict)}
    return [value for part in (content, *inner.values()) for value in part.values() if isinstance(value, _View)]


def _filled(content: Any, values: Callable[[_Storage], memoryview]) -> dict[Any, Any]:
    """Put tensors in place of the _Views."""
    if not isinstance(content, dict):
        raise _RefusedError(f"holds a {type(content).__name__} and not a dictionary")
    flat: dict[str, Tensor] = {}
    for view in _views(content):
        if view.storage.key not in flat:
            flat[view.storage.key] = _flat(view.storage, values(view.storage))

    def fill(part: dict[Any, Any]) -> dict[Any, Any]:
        return {
            name: _tensor(value, flat[value.storage.key]) if isinstance(value, _View) else value
            for name, value in part.items()
            if not isinstance(value, dict)
        }

    inner = {id(value): fill(value) for value in content.values() if isinstance(value, dict)}
    filled = fill(content)
    return {name: inner[id(value)] if isinstance(value, dict) else filled[name] for name, value in content.items()}


def _flat(storage: _Storage, data: memoryview) -> Tensor:
    if len(data) != storage.length * storage.dtype.itemsize:
        raise _RefusedError(f"has {len(data):,} bytes where {in_one_line(storage.length)} values are declared")
    if not storage.length:
        return torch.empty(0, dtype=storage.dtype)
    octets = torch.frombuffer(data, dtype=torch.uint8)
    if octets.data_ptr() % storage.dtype.itemsize:
        octets = octets.clone()
    return octets.view(storage.dtype)


def _tensor(view: _View, flat: Tensor) -> Tensor:
    whole = all(isinstance(n, int) and n >= 0 for n in (view.offset, *view.size, *view.stride))
    few = len(view.size) == len(view.stride) <= _MOST_DIMS
    # A stride of zero lets a few bytes pass for any number of values, and whoever copies them pays.
    if not whole or not few or math.prod(view.size) > len(flat):
        raise _RefusedError(f"has a tensor of shape {in_one_line(view.size)} in {len(flat):,} values")
    try:
        return flat.as_strided(view.size, view.stride, view.offset)
    except (RuntimeError, TypeError, OverflowError):
        raise _RefusedError(f"has a tensor of shape {in_one_line(view.size)} outside its values") from None
