"""Trunc, MultiThreshold and every rounding mode in standard ONNX, against qonnx's executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mpqdeploy.core import ModelError
from mpqdeploy.export.executors import onnxruntime_logits
from mpqdeploy.export.qonnx_executor import qonnx_logits
from mpqdeploy.export.standard import to_standard_onnx
from tests.targets.graphs import GraphBuilder


def agree(model: onnx.ModelProto, folder: Path) -> None:
    """Every value, on inputs that hit ties: all arithmetic before is exact."""
    to_standard_onnx(model, folder / "m.onnx")
    standard = onnx.load(folder / "m.onnx")
    assert {node.domain for node in standard.graph.node} == {""}
    x = np.random.default_rng(0).integers(-40, 40, (1, 3, 5, 6)).astype(np.float32) / 8
    np.testing.assert_array_equal(onnxruntime_logits(standard, x), qonnx_logits(model, x))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "rounding", ["ROUND", "FLOOR", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN", "ROUND_TO_ZERO"]
)
def test_rounding_modes(rounding: str, signed: bool, tmp_path: Path) -> None:
    builder = GraphBuilder(0, (1, 3, 5, 6))
    x = builder.quant("x", 4, signed=signed, scale=0.25, zero_point=1.0, rounding=rounding)
    agree(builder.model(builder.relu(x)), tmp_path)


@pytest.mark.parametrize("rounding", ["FLOOR", "HALF_UP"])
@pytest.mark.parametrize("version", [1, 2])
def test_trunc(version: int, rounding: str, tmp_path: Path) -> None:
    builder = GraphBuilder(0, (1, 3, 5, 6))
    x = builder.quant("x", 8, signed=True, scale=0.125)
    values = (0.125, 0.0, 8.0, 5.0) if version == 1 else (0.125, 4.0, 8.0, 1.0, 3.0)
    parameters = [builder.constant(value) for value in values]
    extra = {} if version == 1 else {"signed": 1, "narrow": 1}
    x = builder.node("Trunc", [x, *parameters], rounding_mode=rounding, **extra)
    model = builder.model(builder.relu(x))
    model.opset_import[1].version = version
    agree(model, tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_multi_threshold(channels: int, tmp_path: Path) -> None:
    builder = GraphBuilder(0, (1, 3, 5, 6))
    table = builder.constant(np.linspace(-3, 3, 7 * channels).reshape(channels, 7))
    x = builder.quant("x", 8, signed=True, scale=0.125)
    x = builder.node("MultiThreshold", [x, table], out_dtype="INT4", out_scale=0.5, out_bias=-1.5)
    agree(builder.model(builder.relu(x)), tmp_path)


def test_channels_last_are_refused(tmp_path: Path) -> None:
    builder = GraphBuilder(0, (1, 3, 5, 6))
    table = builder.constant(np.zeros((1, 3)))
    x = builder.node("MultiThreshold", ["x", table], out_dtype="UINT2", data_layout="NHWC")
    with pytest.raises(ModelError, match="channels last"):
        to_standard_onnx(builder.model(builder.relu(x)), tmp_path / "m.onnx")
