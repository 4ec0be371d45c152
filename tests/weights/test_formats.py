import hashlib

import pytest

from partalign.errors import WeightsError
from partalign.weights.formats import in_one_line, kind_of_file, sha256_of_file


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04...", "a PyTorch file"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
        (b"<html>", "a web page or XML, not a download"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, fetch the file itself"),
        (b"layer {\n  name: 'a'\n}", "a text file"),
        (b"\x0a\x09GoogleNet\x12\xff", "an unknown kind of file"),
    ],
)
def test_kinds(tmp_path, content, kind):
    path = tmp_path / "any.name"
    path.write_bytes(content)
    assert kind_of_file(path) == kind


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="found no such file"):
        kind_of_file(tmp_path / "absent")
    with pytest.raises(WeightsError, match="found a folder"):
        kind_of_file(tmp_path)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"weights").hexdigest()


def test_in_one_line():
    assert in_one_line("conv1/7x7_s2") == "conv1/7x7_s2"
    assert in_one_line("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert in_one_line("x" * 1000, 10) == "x" * 10 + "..."
