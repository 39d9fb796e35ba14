"""reorder: the same values, with pools on codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.reorder import pools_behind_quantizers
from mpqdeploy.targets.program import Conv, Pool
from tests.targets.graphs import BIPOLAR, GraphBuilder


def pool_of_floats(bits: int, seed: int = 0) -> onnx.ModelProto:
    """Convolution, BatchNorm, max pool with padding, ReLU, quantizer, convolution."""
    builder = GraphBuilder(seed, (1, 3, 9, 8))
    x = builder.batchnorm(builder.conv(builder.quant("x", 8, signed=True), 7))
    x = builder.node("MaxPool", [x], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
    x = builder.quant(x if bits == BIPOLAR else builder.relu(x), bits)
    return builder.model(builder.conv(x, 4))


@pytest.mark.parametrize("bits", [BIPOLAR, 1, 4])
def test_values_stay_exactly_the_same(bits: int) -> None:
    model = pool_of_floats(bits)
    original = ModelWrapper(model, make_deepcopy=True).transform(InferShapes())
    normal = normalize(model)
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 8)).astype(np.float32)
    expected = execute_onnx(original, {"x": x}, return_full_exec_context=True)
    got = execute_onnx(normal, {"x": x}, return_full_exec_context=True)
    quantizer = next(node.input[0] for node in model.graph.node if node.output[0] == "y")
    np.testing.assert_array_equal(got[quantizer], expected[quantizer])
    np.testing.assert_array_equal(got["y"], expected["y"])
    anchors = [type(step.anchor) for step in integerize(normal).steps]
    assert anchors == [type(None), Conv, Pool, Conv]


def test_pool_of_codes_and_pool_with_two_readers_stay() -> None:
    builder = GraphBuilder(0, (1, 3, 8, 8))
    x = builder.quant("x", 4, signed=True)
    pooled = builder.node("MaxPool", [x], kernel_shape=[2, 2])
    y = builder.node("MaxPool", [builder.conv(pooled, 3)], kernel_shape=[2, 2])
    total = builder.add(builder.quant(y, 4), builder.relu(y))
    model = ModelWrapper(builder.model(total)).transform(InferShapes())
    before = model.model.SerializeToString()
    assert not pools_behind_quantizers(model)
    assert model.model.SerializeToString() == before
