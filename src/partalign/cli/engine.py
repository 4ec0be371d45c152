"""The option --engine, the same for every command that describes pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

# The names of `partalign.engines.EngineName` again, so that --help imports nothing heavy; a test compares them.
Name = Literal["auto", "torch", "torch-bf16", "compiled", "compiled-bf16", "onnx", "openvino", "openvino-bf16"]

Engine = Annotated[
    Name, Parameter(help="what runs the model: auto is the fastest that is installed, right, and worth its start")
]
