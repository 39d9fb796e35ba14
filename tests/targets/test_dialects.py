"""QONNX as other tools and other years wrote it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from mpqdeploy.targets.passes.dialects import QONNX_DOMAIN, TRIED_OPSET, settle
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Conv
from tests.targets.agreeing import agrees
from tests.targets.graphs import BIPOLAR, GraphBuilder, conv_chain


def test_channels_last_as_keras_has_it() -> None:
    """Transposes around the channels-first part, features flattened channels last, wide bias."""
    builder = GraphBuilder(0, (1, 8, 8, 3))
    x = builder.node("Transpose", ["x"], 3, perm=[0, 3, 1, 2])
    x = builder.block(builder.quant(x, 8, signed=True), 6)
    x = builder.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = builder.node("Transpose", [x], perm=[0, 2, 3, 1])
    x = builder.node("Reshape", [x, builder.constant([-1, 96], np.int64)], 96)
    array = builder.constant(builder.rng.normal(0, 0.1, (96, 10)))
    x = builder.node("MatMul", [x, builder.quant(array, 4, signed=True, scale=0.05)], 10)
    bias = builder.constant(builder.rng.normal(0, 0.1, 10))
    x = builder.node("Add", [x, builder.quant(bias, 16, signed=True, scale=1e-3)], 10)
    program = agrees(builder.model(builder.node("Softmax", [x], axis=-1)))
    assert sum(isinstance(step.anchor, Conv) for step in program.steps) == 2


def test_the_first_exports_of_brevitas() -> None:
    """Domain onnx.brevitas, opset 11, open batch, shapes computed in the graph, MatMul."""
    builder = GraphBuilder(1, (1, 1, 28, 28))
    size = builder.node("Gather", [builder.node("Shape", ["x"]), builder.constant(0, np.int64)])
    size = builder.node("Unsqueeze", [size], axes=[0])
    size = builder.node("Concat", [size, builder.constant([-1], np.int64)], axis=0)
    x = builder.node("Reshape", ["x", size], 784)
    x = builder.node(
        "Sub", [builder.node("Mul", [x, builder.constant(2.0)]), builder.constant(1.0)]
    )
    for features, out in ((784, 64), (64, 10)):
        x = builder.quant(x, BIPOLAR, scale=1.0)
        weights = builder.node("Transpose", [builder.weights((out, features), 1)], perm=[1, 0])
        x = builder.batchnorm(builder.node("MatMul", [x, weights], out))
    model = builder.model(x, opset=11)
    for entry in [*model.graph.node, *model.opset_import]:
        entry.domain = "onnx.brevitas" if entry.domain else ""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    program = agrees(model)
    anchors = [step.anchor for step in program.steps if isinstance(step.anchor, Conv)]
    assert all(anchor.weight_grid.bipolar for anchor in anchors)
    assert len(anchors) == 2


def test_one_domain_and_the_standard_first() -> None:
    model = conv_chain()
    model.opset_import[1].domain = "finn.custom_op.general"
    for node in model.graph.node:
        node.domain = "finn.custom_op.general" if node.domain else ""
        node.name = "the same"
    settle(model)
    assert [entry.domain for entry in model.opset_import] == ["", QONNX_DOMAIN]
    assert {node.domain for node in model.graph.node} == {"", QONNX_DOMAIN}
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


@pytest.mark.parametrize(("inputs", "version"), [(5, 1), (6, 2)])
def test_the_version_of_trunc_follows_its_inputs(inputs: int, version: int) -> None:
    model = conv_chain()
    model.opset_import[1].version = 2
    names = [model.graph.node[0].output[0], *["c"] * (inputs - 1)]
    model.graph.node.add().CopyFrom(onnx.helper.make_node("Trunc", names, ["t"]))
    settle(model)
    assert model.opset_import[1].version == version
    assert model.graph.node[-1].attribute[0].s == b"FLOOR"  # QONNX's default, said


def test_a_new_opset_is_read_as_one_that_is_executed() -> None:
    model = conv_chain()
    model.opset_import[0].version = onnx.defs.onnx_opset_version()
    normal = normalize(model)
    assert normal.get_opset_imports()[""] <= TRIED_OPSET
