"""Atomic writing against real failures of the operating system."""

import subprocess
import sys

import pytest

from partalign.errors import SaveError
from partalign.files import atomic_file, check_ending


def test_a_name_has_to_say_what_the_file_is(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for name in ("x.npz", "x.NPZ", "x.y.parquet"):
        assert check_ending(tmp_path / name, ".npz", ".parquet") == tmp_path / name
    for name in ("x.txt", "x", ".npz", "x.npz.txt", "folder.npz"):
        with pytest.raises(SaveError, match=r"expected a file's name that ends in \.npz or \.parquet; choose another$"):
            check_ending(tmp_path / name, ".npz", ".parquet")


def test_a_complete_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic_file(path) as file:
        file.write(b"one")
    with atomic_file(path) as file:
        file.write(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write_half():
        with atomic_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from partalign.errors import SaveError
from partalign.weights.checkpoint import save_checkpoint
path = Path(sys.argv[1])
save_checkpoint(path, {"w": torch.zeros(10)}, {"kind": "network", "n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(path, {"w": torch.zeros(1_000_000)}, {"kind": "network", "n": 2})
except SaveError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    # A limit on the size of files fails in the same place as a full disk: in the middle of a write.
    from partalign.weights.checkpoint import read_checkpoint

    path = tmp_path / "last.safetensors"
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    assert "last.safetensors: cannot be written" in run.stdout
    assert read_checkpoint(path)[1]["n"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SaveError, match="taken"), atomic_file(tmp_path / "taken" / "x"):
        pass
