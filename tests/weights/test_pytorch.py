import collections
import io
import os
import pickle
import resource
import struct
import tracemalloc
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from partalign.errors import WeightsError
from partalign.weights.pytorch import read_pytorch, without_prefix

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
both_formats = pytest.mark.parametrize("current", [True, False])


def saved(content, current):
    """Return what `torch.save` writes, today or (current=False) before PyTorch 1.6."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=current)
    return file.getvalue()


def read(path, content, spare=500_000):
    """Read `content` as a file; the memory taken must stay within a few times its length."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        return read_pytorch(path)
    except WeightsError as error:
        check_message(str(error), path)
        raise
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(content) + spare
        # Tensors are PyTorch's memory, which tracemalloc does not see.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < (4 * len(content) + 64_000_000) / 1024


def check_message(message, path):
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 500


def read_or_refuse(path, content):
    try:
        return read(path, content)
    except WeightsError:
        return None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pth"


@pytest.fixture(scope="module")
def checkpoint():
    torch.manual_seed(0)
    shared = torch.randn(6, 4)
    return {
        "app_state_dict": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(),
        "part_state_dict": collections.OrderedDict(
            half=torch.randn(3).half(),
            brain=torch.randn(3).bfloat16(),
            double=torch.randn(2, 2).double(),
            whole=torch.arange(5, dtype=torch.int32),
            truth=torch.tensor([True, False]),
            byte=torch.tensor([1, 255], dtype=torch.uint8),
            empty=torch.empty(0, 3),
            view=shared[2:5, 1:],
            turned=shared.T,
            parameter=nn.Parameter(torch.randn(2)),
            last=torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        ),
        "epoch": 75_000,
        "rate": 0.01,
        "note": "höhe",
        "none": None,
    }


@both_formats
def test_reads_what_torch_reads(checkpoint, path, current):
    content = saved(checkpoint, current)
    ours, theirs = read(path, content), torch.load(io.BytesIO(content), weights_only=True)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if not isinstance(value, dict):
            assert ours[name] == value
            continue
        assert list(ours[name]) == list(value)
        for key, tensor in value.items():
            assert ours[name][key].dtype == tensor.dtype
            assert torch.equal(ours[name][key], tensor)


@both_formats
def test_deeper_dictionaries_are_left_out(path, current):
    content = read(path, saved({"optimizer": {"state": {0: {"v": torch.ones(2)}}, "rate": 1.0}}, current))
    assert content == {"optimizer": {"rate": 1.0}}


def test_writing_to_the_tensors_leaves_the_file(checkpoint, path):
    content = saved(checkpoint, True)
    read(path, content)["app_state_dict"]["0.weight"].zero_()
    assert path.read_bytes() == content


class Sentinel:
    """Unpickling this makes a folder."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@both_formats
@pytest.mark.parametrize("call", [os.mkdir, os.system, eval])
def test_code_is_not_run(path, current, call):
    target = path.parent / "ran"
    argument = {os.mkdir: str(target), os.system: f"mkdir {target}", eval: f"__import__('os').mkdir({str(target)!r})"}[
        call
    ]
    evil = Sentinel(call, argument)
    for content in (evil, {"app_state_dict": evil}, {"w": torch.ones(2), "x": [evil]}):
        written = saved(content, current)
        with pytest.raises(WeightsError, match=r"holds more than tensors .*; nothing was loaded"):
            read(path, written)
        assert not target.exists()
    # The same file is armed: an ordinary load does run it.
    torch.load(io.BytesIO(written), weights_only=False)
    assert target.exists()


def test_a_bare_pickle_is_not_run(path):
    target = path.parent / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(WeightsError):
            read(path, pickle.dumps(Sentinel(os.mkdir, str(target)), protocol))
    assert not target.exists()


def zip_with(program, values=b"", compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", values)
    return file.getvalue()


def tensor_program(count, size, stride, offset=0):
    """Return the pickle of {"w": tensor}, written by hand: count values in storage 0."""

    def tuple_of(*items):
        return b"(" + b"".join(items) + b"t"

    def number(n):
        return b"\x8a\x0a" + n.to_bytes(10, "little", signed=True)

    def text(t):
        return b"X" + struct.pack("<I", len(t)) + t.encode()

    def name(t):
        return b"c" + t.replace(" ", "\n").encode() + b"\n"

    storage = tuple_of(text("storage"), name("torch FloatStorage"), text("0"), text("cpu"), number(count)) + b"Q"
    where = [number(offset), tuple_of(*map(number, size)), tuple_of(*map(number, stride))]
    rebuilt = name("torch._utils _rebuild_tensor_v2") + tuple_of(storage, *where, b"\x89", b"N") + b"R"
    return b"\x80\x02}" + text("w") + rebuilt + b"s."


def test_a_tensor_written_by_hand(path):
    found = read(path, zip_with(tensor_program(6, (2, 3), (3, 1)), struct.pack("<6f", *range(6))))
    assert torch.equal(found["w"], torch.arange(6.0).view(2, 3))


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [
        (10**12, (10**12,), (1,), 0),
        (6, (10**6, 10**6), (0, 0), 0),
        (6, (2**62, 4), (0, 0), 0),
        (6, (7,), (1,), 0),
        (6, (6,), (1,), 1),
        (6, (2, 3), (10**15, 1), 0),
        (6, (2, 3), (3,), 0),
        (6, (-2, -3), (3, 1), 0),
        (6, (2, 3), (-3, 1), 0),
        (6, (2, 3), (3, 1), -1),
        (6, (0, 2**70), (1, 1), 0),
        (6, (1,) * 100, (1,) * 100, 0),
        (-1, (1,), (1,), 0),
    ],
)
def test_tensors_that_do_not_fit_their_values(path, count, size, stride, offset):
    with pytest.raises(WeightsError, match="nothing was loaded"):
        read(path, zip_with(tensor_program(count, size, stride, offset), struct.pack("<6f", *range(6))))


BOMBS = {
    "bytearray": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x04\x85R.",
    "copies of a dictionary": b"\x80\x02ccollections\nOrderedDict\nq\0]("
    + b"N" * 9000
    + b"eq\x01"
    + b"h\0h\x01\x85R" * 9000,
    "nested tuples as a key": b"\x80\x02}N" + b"\x85" * 150_000 + b"Ns.",
    "nested lists": b"\x80\x02}X\x01\0\0\0a" + b"](" * 60_000 + b"e" * 60_000 + b"s.",
    "itself": b"\x80\x02}q\0X\x01\0\0\0ah\0s.",
    "doubling": b"\x80\x02}q\0" + b"}q\x01(X\x01\0\0\0ah\0X\x01\0\0\0bh\0uq\0" * 60 + b".",
    "many objects": b"\x80\x02" + b"}" * 500_000 + b".",
    "a far place in the memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "no end": b"\x80\x02}",
    "empty stack": b"\x80\x02s.",
    "items of a number": b"\x80\x02K\x01X\x01\0\0\0aK\x01s.",
    "odd items": b"\x80\x02}(X\x01\0\0\0au.",
}


@pytest.mark.parametrize("bomb", BOMBS)
@both_formats
def test_pickles_that_ask_for_much(path, bomb, current):
    if current:
        content = zip_with(BOMBS[bomb])
    else:
        content = saved({}, False)
        start = content.index(b"little_endian")
        place = content.index(b"\x80\x02}q\x00.", start)  # the empty dictionary that was saved
        content = content[:place] + BOMBS[bomb] + content[place + 6 :]
    # 200,000 instructions are carried out; the objects that they leave take some hundred bytes each.
    try:
        read(path, content, spare=25_000_000)
    except WeightsError:
        return
    assert bomb in ("itself", "doubling", "a far place in the memo", "nested lists")


def test_compressed_archive(path):
    content = zip_with(tensor_program(10**8, (10**8,), (1,)), bytes(4 * 10**8), zipfile.ZIP_DEFLATED)
    assert len(content) < 10**6
    with pytest.raises(WeightsError, match="compressed"):
        read(path, content)


def test_places_outside_the_archive(checkpoint, path):
    content = bytearray(saved(checkpoint, True))
    listed = content.index(b"PK\x01\x02")  # first entry of the archive's list; its place is at byte 42
    for place in (2**32 - 2, 2**31, len(content) - 1):
        content[listed + 42 : listed + 46] = place.to_bytes(4, "little")
        with pytest.raises(WeightsError, match="damaged"):
            read(path, bytes(content))


@given(count=st.integers(-(2**63), 2**63 - 1).filter(lambda n: n != 7))
@quick
def test_lengths_in_old_files(path, count):
    content = saved({"w": torch.arange(7.0)}, False)
    place = len(content) - 7 * 4 - 8
    assert content[place : place + 8] == struct.pack("<q", 7)
    with pytest.raises(WeightsError):
        read(path, content[:place] + struct.pack("<q", count) + content[place + 8 :])


def test_values_of_another_checksum(checkpoint, path):
    content = saved(checkpoint, True)
    weight = checkpoint["app_state_dict"]["0.weight"].numpy().tobytes()
    place = content.index(weight)
    with pytest.raises(WeightsError, match=r"damaged in .*download it again"):
        read(path, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@both_formats
def test_every_truncation(checkpoint, path, current):
    content = saved({"w": torch.arange(7.0), "n": 3}, current)
    for length in range(len(content)):
        with pytest.raises(WeightsError):
            read(path, content[:length])


@both_formats
@quick
@given(data=st.data())
def test_changed_bytes(checkpoint, path, current, data):
    content = bytearray(saved({"w": torch.arange(7.0), "part": {"b": torch.ones(2, 2)}}, current))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    read_or_refuse(path, bytes(content))


@quick
@given(program=st.binary(max_size=80))
def test_any_pickle(path, program):
    read_or_refuse(path, zip_with(b"\x80\x02" + program))


OPCODES = [
    *(
        b"}",
        b"]",
        b")",
        b"(",
        b"N",
        b"\x88",
        b"K\x01",
        b"\x85",
        b"\x86",
        b"\x87",
        b"t",
        b"s",
        b"u",
        b"a",
        b"e",
        b"R",
        b"b",
    ),
    *(b"Q", b"q\0", b"h\0", b"q\1", b"h\1", b"X\x01\0\0\0a", b"X\x07\0\0\0storage", b"ctorch\nFloatStorage\n"),
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"0", b"2", b"1"),
]


@settings(quick, max_examples=400)
@given(program=st.lists(st.sampled_from(OPCODES), max_size=25))
def test_any_instructions(path, program):
    read_or_refuse(path, zip_with(b"\x80\x02" + b"".join(program) + b"."))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.ones(2)], "holds a list, no dictionary"),
        (torch.ones(2), "holds a tensor, no dictionary"),
        ({(1, 2): torch.ones(2)}, "keys that are no names"),
    ],
)
@both_formats
def test_other_content(path, content, says, current):
    with pytest.raises(WeightsError, match=says):
        read(path, saved(content, current))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(200), b"hello", b"\x80\x04N."])
def test_other_files(path, content):
    with pytest.raises(WeightsError, match="PyTorch file"):
        read(path, content)


def test_another_zip_archive(path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="another kind of zip archive"):
        read(path, file.getvalue())


def test_without_prefix(path):
    assert list(without_prefix({"module.a.module.b": torch.ones(1), "c": torch.ones(1)}, source=path)) == [
        "a.module.b",
        "c",
    ]
    with pytest.raises(WeightsError, match="found int in epoch"):
        without_prefix({"epoch": 3}, source=path)
