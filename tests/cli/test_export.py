"""`partalign engines` as a user runs it."""

import sys

import pytest

from partalign.cli import main


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def test_engines_are_listed_with_their_figures(exported, capsys):
    assert run("engines", exported / "light.onnx") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {"onnx"}
    assert "crops per second" in lines[0]


def test_where_no_engine_runs_it_the_command_fails(exported, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run("engines", exported / "light.onnx") == 1
    assert all("pip install" in line for line in capsys.readouterr().out.splitlines())


def test_what_no_engine_can_read_is_told_once(tmp_path, capsys):
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    for name in ("none.onnx", "damaged.onnx"):
        assert run("engines", tmp_path / name) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"partalign: {tmp_path / name}: expected")
        assert told.err.count("\n") == 1
