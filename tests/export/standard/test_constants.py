"""Packed constants give back the very floats that qonnx computes."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from mpqdeploy.export.executors import onnxruntime_session
from mpqdeploy.export.qonnx_executor import qonnx_logits
from mpqdeploy.export.standard.convert import convert
from tests.export.networks import QONNX, model, quant_node


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32]),
    signed=st.booleans(),
    narrow=st.booleans(),
    zero_point=st.sampled_from([0.0, 1.0, -3.0, 0.5, 1000.0]),
    scale_shape=st.sampled_from([(), (1,), (5, 1, 1, 1), (1, 3, 1, 1), (5, 3, 1, 1)]),
    seed=st.integers(0, 1000),
)
def test_same_floats_as_qonnx(
    bits: int,
    signed: bool,
    narrow: bool,
    zero_point: float,
    scale_shape: tuple[int, ...],
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((5, 3, 3, 2)).astype(np.float32)
    scale = generator.uniform(0.01, 1, scale_shape).astype(np.float32)
    tensors = [numpy_helper.from_array(weights, "w")]
    quant = quant_node(
        "wq",
        "w",
        tensors,
        scale=scale,
        zero_point=zero_point,
        bits=bits,
        signed=signed,
        narrow=narrow,
    )
    add = helper.make_node("Add", ["x", "wq"], ["y"], "add")
    _assert_same(model([quant, add], tensors, weights.shape, "y", weights.shape), weights.shape)


@settings(max_examples=10, deadline=None)
@given(columns=st.integers(1, 17), per_channel=st.booleans())
def test_signs_take_one_bit(columns: int, per_channel: bool) -> None:
    weights = np.random.default_rng(columns).standard_normal((3, columns)).astype(np.float32)
    weights[0, 0] = 0.0
    scale = np.array([[0.5], [1.5], [2.5]] if per_channel else [0.5], np.float32)
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(scale, "s")]
    nodes = [
        helper.make_node("BipolarQuant", ["w", "s"], ["wq"], "wq", domain=QONNX),
        helper.make_node("Add", ["x", "wq"], ["y"], "add"),
    ]
    source = model(nodes, tensors, weights.shape, "y", weights.shape, opset=21)
    _assert_same(source, weights.shape)
    packed = {tensor.name: tensor for tensor in convert(source).graph.initializer}["wq.signs"]
    assert len(packed.raw_data) == (weights.size + 7) // 8


def _assert_same(source: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    standard = convert(source if source.opset_import[0].version >= 21 else _raised(source))
    found = onnxruntime_session(standard).run(None, {"x": x})[0]
    np.testing.assert_array_equal(found, qonnx_logits(source, x))


def _raised(source: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import version_converter

    return version_converter.convert_version(source, 21)
