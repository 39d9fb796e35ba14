"""Codes of lowered quantizers equal qonnx's own, for every width, sign, range and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from mpqdeploy.export.executors import onnxruntime_session
from mpqdeploy.export.qonnx_executor import qonnx_logits
from mpqdeploy.export.standard.convert import convert
from tests.export.networks import QONNX, model, quant_node

SHAPE = (1, 4, 6, 5)


def _inputs(scale: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """Values around every code, one in three exactly on a tie, some far outside the range."""
    generator = np.random.default_rng(seed)
    steps = generator.uniform(-300, 300, SHAPE)
    halves = np.rint(steps) + 0.5
    mixed = np.where(generator.random(SHAPE) < 0.33, halves, steps)
    small = np.where(generator.random(SHAPE) < 0.5, mixed / 40, mixed)
    return np.asarray(small * scale, np.float32)


def _both(
    source: onnx.ModelProto, x: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from onnx import version_converter

    standard = convert(version_converter.convert_version(source, 21))
    found = onnxruntime_session(standard).run(None, {"x": x})[0]
    return qonnx_logits(source, x), found


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(1, 10),
    signed=st.booleans(),
    narrow=st.booleans(),
    zero_point=st.sampled_from([0.0, 1.0, 3.0, 128.0, -5.0, 300.0, 2.5]),
    rounding=st.sampled_from(["ROUND", "FLOOR", "CEIL", "DOWN"]),
    channels=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(
    bits=8, signed=False, narrow=False, zero_point=1.0, rounding="ROUND", channels=False, seed=0
)
@example(bits=4, signed=True, narrow=True, zero_point=0.0, rounding="ROUND", channels=True, seed=0)
def test_same_values_as_qonnx(
    bits: int,
    signed: bool,
    narrow: bool,
    zero_point: float,
    rounding: str,
    channels: bool,
    seed: int,
) -> None:
    # Powers of two, so that ties are exact in float32.
    exponents = np.random.default_rng(seed).integers(-4, 3, (1, 4, 1, 1) if channels else (1,))
    scale = np.exp2(exponents).astype(np.float32)
    tensors: list[onnx.TensorProto] = []
    node = quant_node(
        "q",
        "x",
        tensors,
        scale=scale,
        zero_point=zero_point,
        bits=bits,
        signed=signed,
        narrow=narrow,
        rounding=rounding,
    )
    expected, found = _both(model([node], tensors, SHAPE, "q", SHAPE), _inputs(scale, seed))
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.0009765625, 10, width=32), bits=st.integers(2, 8), signed=st.booleans())
def test_same_values_for_any_scale(scale: float, bits: int, signed: bool) -> None:
    tensors: list[onnx.TensorProto] = []
    node = quant_node("q", "x", tensors, scale=scale, bits=bits, signed=signed)
    x = _inputs(np.float32(scale), bits)
    expected, found = _both(model([node], tensors, SHAPE, "q", SHAPE), x)
    np.testing.assert_array_equal(found, expected)


def test_bipolar_maps_zero_to_plus() -> None:
    scale = onnx.numpy_helper.from_array(np.float32(0.75), "s")
    node = helper.make_node("BipolarQuant", ["x", "s"], ["q"], "q", domain=QONNX)
    x = np.array([[-2.0, -0.0, 0.0, 1e-30, -1e-30, 3.0]], np.float32)
    expected, found = _both(model([node], [scale], (1, 6), "q", (1, 6)), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, [[-0.75, 0.75, 0.75, 0.75, -0.75, 0.75]])


@pytest.mark.parametrize(("bits", "clipped"), [(8, False), (4, True)])
def test_eight_bits_need_no_clip(bits: int, clipped: bool) -> None:
    tensors: list[onnx.TensorProto] = []
    node = quant_node("q", "x", tensors, scale=0.5, bits=bits, signed=False)
    standard = convert(model([node], tensors, SHAPE, "q", SHAPE, opset=21))
    operators = [node.op_type for node in standard.graph.node]
    expected = ["QuantizeLinear", *(["Clip"] if clipped else []), "DequantizeLinear"]
    assert operators == expected
