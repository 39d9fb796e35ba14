"""Compile a graph of `tests.targets.graphs` for a named target, or skip where it cannot run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from mpqdeploy.targets.compile import Compiled, compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.target import Target, load_target


def target_here(name: str) -> Target:
    target = load_target(name)
    if target.missing():
        pytest.skip(f"this CPU lacks {target.missing()[0]}, which {name} needs")
    return target


def compiled(model: onnx.ModelProto, folder: Path, target: str = "x86-64") -> Compiled:
    """`folder/net.onnx` and `folder/net.so`."""
    onnx.save(model, folder / "net.onnx")
    return compile_qonnx(folder / "net.onnx", target_here(target), folder / "net.so")


def opened(model: onnx.ModelProto, folder: Path, target: str = "x86-64") -> Library:
    return Library(compiled(model, folder, target).library)
