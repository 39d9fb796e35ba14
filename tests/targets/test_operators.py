"""Every operator that files in the wild have, against qonnx's executor: program and library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.program import FloatConv
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.verify import verify_library
from tests.targets.agreeing import agrees, runs
from tests.targets.graphs import BIPOLAR, GraphBuilder
from tests.targets.wild import WILD, network

COMPILED = {  # one of each kind of machine code
    "sigmoid", "tanh", "exp", "sqrt", "elu", "softmax", "log_softmax", "concat_same_scale",
    "concat_other_scale", "concat_rows", "resize_3_2", "depth_to_space_crd", "slice_backwards",
    "channel_shuffle", "pad_then_add", "average_without_padding", "average_of_floats",
    "max_of_floats", "concat_floats", "one_row", "split", "excitation", "float_weights",
    "erf_gelu", "gelu_tanh", "layer_norm_last", "layer_norm_image", "layer_norm_flat",
    "layer_norm_features", "softmax_columns", "products", "add_per_pixel", "joined_to_constants",
    "gather_channel",
}  # fmt: skip


def transposed(
    builder: GraphBuilder, x: str, out: int, kernel: int, *, groups: int = 1, **attributes: object
) -> str:
    """With quantized weights `[I, O/groups, K, K]`, their scale per output channel where it can."""
    shape = (builder.channels[x], out // groups, kernel, kernel)
    array = builder.rng.normal(0, 0.4, shape)
    scale = np.abs(array).max(axis=(0, 2, 3), keepdims=True) / 7
    if groups > 1:
        scale = np.abs(array).max() / 7
    name = builder.quant(builder.constant(array), 4, signed=True, narrow=True, scale=scale)
    return builder.node("ConvTranspose", [x, name], out, group=groups, **attributes)


TRANSPOSED = [
    {"kernel": 3, "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    {"kernel": 2, "strides": [2, 2]},
    {"kernel": 3},
    {"kernel": 3, "strides": [3, 2], "pads": [0, 2, 1, 3]},
    {"kernel": 3, "strides": [2, 1], "dilations": [2, 2], "pads": [1, 0, 0, 1]},
    {"kernel": 3, "strides": [2, 2], "groups": 2},
    {"kernel": 1, "strides": [2, 2], "pads": [3, 4, 2, 3]},  # crops to as many pixels as before
    {"kernel": 2, "strides": [2, 2], "pads": [4, 2, 3, 4]},
    {"kernel": 4, "strides": [2, 2], "groups": 6, "pads": [1, 1, 1, 1]},
    {"kernel": 3, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel": 3, "strides": [2, 2], "output_shape": [12, 16], "output_padding": [1, 1]},
]


@pytest.mark.parametrize("geometry", TRANSPOSED, ids=lambda geometry: str(len(str(geometry))))
def test_transposed_convolutions(geometry: dict[str, Any]) -> None:
    def build(builder: GraphBuilder, x: str) -> str:
        return transposed(builder, x, 6, **geometry)

    program = agrees(network(build))
    assert not any(step.fallback for step in program.steps)


def test_a_transposed_convolution_compiles(tmp_path: Path) -> None:
    def build(builder: GraphBuilder, x: str) -> str:
        y = transposed(builder, x, 17, **TRANSPOSED[0])
        return transposed(builder, builder.quant(builder.relu(y), BIPOLAR), 6, **TRANSPOSED[3])

    program = runs(network(build), tmp_path)
    assert [type(step.anchor) for step in program.steps].count(FloatConv) == 1  # bipolar has no 0


@pytest.mark.parametrize("name", WILD)
def test_every_operator_agrees_with_qonnx(name: str) -> None:
    agrees(network(WILD[name]))


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_every_operator_compiles(name: str, tmp_path: Path) -> None:
    runs(network(WILD[name]), tmp_path, "x86-64" if len(name) % 2 else "x86-64-avx2")


@pytest.mark.parametrize(
    "opset", [9, 10, 11, 12, 13, 16, 18, 21, 23, 25, onnx.defs.onnx_opset_version()]
)
def test_every_opset(opset: int) -> None:
    builder = GraphBuilder(7, (1, 3, 8, 8))
    x = builder.block(builder.quant("x", 8, signed=True), 6)
    y = builder.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])
    numbers = builder.constant([1.0, 1, 2, 2])
    if opset == 9:
        y = builder.node("Upsample", [y, numbers], mode="nearest")
        y = builder.node("Slice", [y], axes=[2, 3], starts=[0, 1], ends=[6, 8])
    elif opset == 10:
        y = builder.node("Resize", [y, numbers], mode="nearest")
        y = builder.node("Slice", [y, *(builder.constant(v, np.int64) for v in ([0], [7], [2]))])
    else:
        region = builder.constant(np.zeros(8))
        y = builder.node("Resize", [y, region, numbers], mode="nearest")
    if opset < 11:
        y = builder.node("Clip", [y], min=0.0, max=1.5)
        y = builder.node("Pad", [y], pads=[0, 0, 1, 0, 0, 0, 1, 0])
    else:
        y = builder.node("Clip", [y, builder.constant(0.0), builder.constant(1.5)])
        y = builder.node("Pad", [y, builder.constant([0, 0, 1, 0, 0, 0, 1, 0], np.int64)])
    y = builder.quant(builder.conv(y, 5), 4, signed=True)
    y = builder.node(
        "ReduceMean",
        [y, *([builder.constant([2, 3], np.int64)] if opset >= 18 else [])],
        **({} if opset >= 18 else {"axes": [2, 3]}),
        keepdims=1,
    )
    if opset < 13:
        y = builder.node("Squeeze", [y], axes=[2, 3])
    else:
        y = builder.node("Squeeze", [y, builder.constant([2, 3], np.int64)])
    y = builder.linear(builder.quant(y, 8, signed=True), 5, 4)
    model = builder.model(builder.node("Softmax", [y], axis=1), opset=opset)
    agrees(model)


def test_a_batch_that_the_file_leaves_open(tmp_path: Path) -> None:
    model = network(WILD["sigmoid"], batch=1)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, tmp_path / "net.onnx")
    results = []
    x = np.random.default_rng(0).normal(size=(5, 3, 6, 8)).astype(np.float32)
    for batch in (1, 2):
        path = tmp_path / f"{batch}.so"
        compile_qonnx(tmp_path / "net.onnx", load_target("x86-64"), path, batch=batch)
        library = Library(path)
        assert library.inputs[0].shape[0] == batch
        layers = verify_library(tmp_path / "net.onnx", library, [library.random_inputs()])
        assert not any(layer.errors for layer in layers)
        results.append(library.run({"x": x})["y"])
    np.testing.assert_array_equal(*results)


def test_shapes_computed_in_the_graph_are_constants() -> None:
    """PyTorch's flatten with an open batch: Shape, Gather, Unsqueeze, Concat, Reshape."""

    def build(builder: GraphBuilder, x: str) -> str:
        size = builder.node("Shape", [x])
        size = builder.node("Gather", [size, builder.constant(0, np.int64)], axis=0)
        size = builder.node("Unsqueeze", [size, builder.constant([0], np.int64)])
        size = builder.node("Concat", [size, builder.constant([-1], np.int64)], axis=0)
        y = builder.node("Reshape", [x, size], 288)
        y = builder.quant(builder.linear(y, 288, 48), 4, signed=True)
        return builder.node("Reshape", [y, builder.constant([0, 1, 6, 8], np.int64)], 1)

    agrees(network(build))
