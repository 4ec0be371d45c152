"""The pickles inside PyTorch's files, carried out here and never unpickled.

A pickle is a program. The few instructions that `torch.save` writes for a state dict are carried out one by one, each
at a bounded cost; every other instruction is refused. (`torch.load(weights_only=True)` runs no code either, but a
file of some hundred bytes can make it allocate gigabytes.) What the program names is never looked up or imported.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from partalign.weights.formats import in_one_line

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
_MOST_INSTRUCTIONS = 200_000  # about forty for each tensor


class RefusedError(Exception):
    """The file is damaged or asks for more than tensors; becomes a WeightsError that names the file."""


class _Name(NamedTuple):
    """Something of Python's or PyTorch's that the pickle names; never looked up."""

    path: str


class Storage(NamedTuple):
    """A run of values elsewhere in the file."""

    key: str
    dtype: torch.dtype
    length: int


class View(NamedTuple):
    """A tensor: where its values lie in a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def run_pickle(program: Any) -> tuple[Any, dict[str, Storage]]:
    """Carry out one pickle, of bytes or at a file's place.

    Returns what it makes, with a View for each tensor, and the storages that it speaks of, by key. Raises RefusedError
    where it holds anything but tensors and plain values, ValueError where it is damaged.
    """
    try:
        # The listing warns of odd escapes in instructions that are refused the moment they are listed.
        with warnings.catch_warnings(action="ignore"):
            return _carry_out(program)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its pickle makes no sense, {type(error).__name__}") from None


def _carry_out(program: Any) -> tuple[Any, dict[str, Storage]]:
    storages: dict[str, Storage] = {}
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for step, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if step > _MOST_INSTRUCTIONS:
            raise RefusedError("holds too many objects for a state dict")
        if instruction.name != "STOP":
            _step(instruction.name, argument, stack, marks, memo)
        if instruction.name == "BINPERSID":
            storages[stack[-1].key] = stack[-1]
    if len(stack) != 1:
        raise IndexError
    return stack[0], storages


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
            raise RefusedError(
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
        raise RefusedError(f"holds more than tensors (pickle instruction {name})")


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
        raise RefusedError("has keys that are no names")
    dict.update(target, zip(keys, items[1::2], strict=True))


def _storage(kind: str, dtype: _Name, key: str, device: str, count: int, *_: Any) -> Storage:  # noqa: ARG001
    if kind != "storage" or not isinstance(key, str) or not isinstance(count, int):
        raise TypeError
    return Storage(key, _DTYPES[dtype.path], count)


def _call(function: _Name, arguments: tuple[Any, ...]) -> Any:
    match function.path.rpartition(" ")[2], arguments:
        case "OrderedDict", ():
            return {}
        case "_rebuild_parameter", (View() as view, *_):
            return view
        case "_rebuild_tensor" | "_rebuild_tensor_v2", (Storage() as storage, int(), tuple(), tuple(), *_):
            return View(storage, *arguments[1:4])
    raise RefusedError(f"holds more than tensors (a call of {in_one_line(function.path)})")
