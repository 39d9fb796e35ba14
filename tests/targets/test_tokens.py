"""tokens: products over the last axis, as convolutions: the same values, and hardly a Transpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from mpqdeploy.core import ModelError
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Conv, MatMul
from tests.targets.agreeing import runs
from tests.targets.graphs import GraphBuilder
from tests.targets.token_graphs import (
    BUILDS,
    Build,
    attention,
    biased,
    block,
    chances,
    classifier,
    clipped,
    flattened,
    joint_attention,
    matrix,
    mean,
    mixer,
    mlp,
    model,
    signs,
)

# Transposes that are left: of the input, and of an output or of what wants features last.
LEFT = {
    mlp: 2,
    mixer: 3,
    classifier: 1,
    chances: 2,
    flattened: 2,
    signs: 2,
    clipped: 2,
    mean: 1,
    block: 4,
    attention: 10,
    joint_attention: 9,
}

ATTENTION = (attention, joint_attention)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_values_stay_and_transposes_meet(build: Build) -> None:
    given = model(build)
    original = ModelWrapper(given, make_deepcopy=True).transform(InferShapes())
    normal = normalize(given)
    x = np.random.default_rng(0).normal(size=(1, 6, 10)).astype(np.float32)
    expected = execute_onnx(original, {"x": x}, return_full_exec_context=True)
    got = execute_onnx(normal, {"x": x}, return_full_exec_context=True)
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-5, atol=1e-5)
    common = {name for node in normal.graph.node for name in node.output} & set(expected)
    for name in common - {"y"}:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-5)
    fed = {"x"}
    for node in normal.graph.node:
        fed.update(node.output if fed.intersection(node.input) else ())
    turned = [n for n in normal.graph.node if n.op_type == "Transpose" and n.input[0] in fed]
    assert len(turned) == LEFT[build]
    products = [node for node in normal.graph.node if node.op_type == "MatMul"]
    assert len(products) == (2 if build in ATTENTION else 0)  # of two computed tensors
    assert all(normal.get_initializer(node.input[1]) is None for node in products)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_products_of_tokens_compile(build: Build, tmp_path: Path) -> None:
    program = runs(model(build), tmp_path, "host")
    convolutions = [step for step in program.steps if isinstance(step.anchor, Conv)]
    between = [step for step in program.steps if isinstance(step.anchor, MatMul)]
    assert len(between) == (2 if build in ATTENTION else 0)
    notes = {note.split()[0] for step in convolutions for note in step.fallback}
    assert notes == ({"Erf", "Mul"} if build is block else set())  # between two products
    assert any(isinstance(step.anchor, Conv) for step in program.steps)


def test_features_last_in_images(tmp_path: Path) -> None:
    """`[N, H, W, F]`, as networks with channels last have it, in a batch."""

    def build(builder: GraphBuilder, x: str) -> str:
        return biased(builder, matrix(builder, x, 10, 17), 17)

    program = runs(model(build, (2, 3, 5, 10)), tmp_path)
    assert program.outputs[0].shape == (2, 3, 5, 17)


def test_flat_products_stay_as_they_are() -> None:
    builder = GraphBuilder(0, (1, 10))
    given = builder.model(matrix(builder, builder.quant("x", 8, signed=True), 10, 4))
    assert any(node.op_type == "MatMul" for node in normalize(given).graph.node)


def same_values(given: onnx.ModelProto, shape: tuple[int, ...]) -> bool:
    original = ModelWrapper(given, make_deepcopy=True).transform(InferShapes())
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected, got = (execute_onnx(net, {"x": x})["y"] for net in (original, normalize(given)))
    return bool(np.allclose(got, expected, rtol=1e-5, atol=1e-5))


def test_one_matrix_and_bias_for_inputs_of_three_and_four_axes() -> None:
    builder = GraphBuilder(5, (2, 3, 4, 10))
    x = builder.quant("x", 8, signed=True)
    weights = builder.node("Transpose", [builder.weights((10, 10), 4)], perm=[1, 0])
    bias = builder.quant(builder.constant(builder.rng.normal(0, 0.3, 10)), 8, signed=True)
    y = builder.quant(builder.add(builder.node("MatMul", [x, weights], 10), bias), 8, signed=True)
    y = builder.node("Reshape", [y, builder.constant(np.array([2, 12, 10]), np.int64)])
    y = builder.add(builder.node("MatMul", [y, weights], 10), bias)
    assert same_values(builder.model(y), (2, 3, 4, 10))


def test_a_name_that_the_file_has_is_not_taken() -> None:
    given = model(mlp)
    product = next(node for node in given.graph.node if node.op_type == "MatMul")
    old, taken = product.input[0], f"{product.output[0]}_features_first"
    for node in given.graph.node:
        node.input[:] = [taken if name == old else name for name in node.input]
        node.output[:] = [taken if name == old else name for name in node.output]
    assert same_values(given, (1, 6, 10))
    written = [name for node in normalize(given).graph.node for name in node.output]
    assert len(set(written)) == len(written)


def test_what_else_is_read_of_a_turned_batch_stays_and_is_named() -> None:
    """All of it, beside an index."""

    def build(builder: GraphBuilder, x: str) -> str:
        y = builder.node("Reshape", [x, builder.constant(np.array([0, 6, 2, 5]), np.int64)])
        y = builder.node("Transpose", [y], perm=[2, 0, 1, 3])
        one = builder.node("Gather", [y, builder.constant(np.array(1), np.int64)], axis=0)
        total = builder.node("ReduceMean", [y], axes=[0], keepdims=0)
        return builder.quant(builder.add(one, total), 8, signed=True)

    with pytest.raises(ModelError, match=r"\(Transpose\): it moves the batch"):
        integerize(normalize(model(build)))
