"""integerize and the reference executor against qonnx's executor, layer by layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import ModelError
from mpqdeploy.targets import reference
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Conv,
    Load,
    Pool,
    Program,
    Quant,
    Step,
    Sum,
    walk,
)
from tests.targets import graphs
from tests.targets.agreeing import agrees
from tests.targets.graphs import BIPOLAR, GRAPHS, GraphBuilder


def error_of(builder: GraphBuilder, output: str) -> str:
    with pytest.raises(ModelError) as caught:
        integerize(normalize(builder.model(output)))
    return str(caught.value)


def step_of(program: Program, source: str) -> Step:
    return next(step for step in program.steps if source in step.sources)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_agrees_with_qonnx(name: str) -> None:
    agrees(GRAPHS[name](1))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.lists(st.sampled_from([1, 2, 3, 8, 17, 33]), min_size=2, max_size=2),
    size=st.tuples(st.integers(7, 10), st.integers(7, 10)),
    weight_bits=st.integers(1, 8),
    act_bits=st.sampled_from([BIPOLAR, 1, 2, 3, 4, 8]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_any_convolution_agrees_with_qonnx(
    seed: int,
    channels: list[int],
    size: tuple[int, int],
    weight_bits: int,
    act_bits: int,
    kernel: int,
    stride: int,
    pads: tuple[int, int, int, int],
) -> None:
    model = graphs.conv_chain(
        seed,
        channels=(3, *channels),
        size=size,
        weight_bits=weight_bits,
        act_bits=act_bits,
        kernel=kernel,
        stride=1 if kernel == 1 else stride,
        pads=pads if kernel > 1 else (0, 0, 0, 0),
    )
    agrees(model, seed)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.sampled_from([3, 17]),
    weight_bits=st.sampled_from([1, 2, 4]),
    act_bits=st.sampled_from([1, 2, 4, 8]),
)
def test_any_residual_block_agrees_with_qonnx(
    seed: int, channels: int, weight_bits: int, act_bits: int
) -> None:
    agrees(
        graphs.residual(seed, channels=channels, weight_bits=weight_bits, act_bits=act_bits), seed
    )
    agrees(graphs.option_a(seed, channels=channels, act_bits=act_bits), seed)


def test_batchnorm_and_quantizer_become_one_affine() -> None:
    program = agrees(graphs.conv_chain())
    (output,) = step_of(program, "Conv_2").outputs
    assert [type(expr).__name__ for expr in walk(output.value)] == ["Acc", "ExactAffine", "Quant"]


def test_residual_block_is_one_step_per_convolution() -> None:
    program = agrees(graphs.residual())
    anchors = [step for step in program.steps if isinstance(step.anchor, Conv)]
    assert len(program.steps) == len(anchors) + 1  # and the quantizer of the input
    added = step_of(program, "Add_15")
    assert added.anchor is not None
    assert [load.tensor for load in added.loads()] == ["Quant_5_out"]


def test_option_a_shortcut_is_a_load() -> None:
    program = agrees(graphs.option_a(channels=8))
    (load,) = step_of(program, "Slice_14").loads()
    assert load == Load(tensor="Quant_5_out", stride=(2, 2), channel_offset=4)


def test_value_with_three_readers_is_computed_once() -> None:
    program = agrees(graphs.residual_float())
    outputs = step_of(program, "Add_17").outputs
    sums = {expr for output in outputs for expr in walk(output.value) if isinstance(expr, Sum)}
    assert len(outputs) == 3
    assert len(sums) == 1
    grids = [program.tensors[output.tensor].grid for output in outputs]
    assert sorted(0 if grid is None else grid.bits for grid in grids) == [0, 4, 8]


def test_flatten_permutes_the_weights() -> None:
    program = agrees(graphs.mlp(image=(3, 5, 4)))
    anchor = step_of(program, "Gemm_8").anchor
    assert isinstance(anchor, Conv)
    assert anchor.weights.shape == (33, 5, 4, 7)


@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_lie_on_their_grid(bits: int) -> None:
    program = integerize(normalize(graphs.conv_chain(weight_bits=bits)))
    for step in program.steps:
        if isinstance(step.anchor, Conv):
            grid = step.anchor.weight_grid
            assert (grid.bits, grid.bipolar) == (bits, bits == 1)
            assert set(np.unique(step.anchor.weights)) <= set(range(grid.low, grid.high + 1))
            assert not grid.bipolar or set(np.unique(step.anchor.weights)) == {-1, 1}


@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "CEIL", "DOWN"])
@pytest.mark.parametrize(("signed", "zero_point"), [(True, -2.0), (False, 5.0)])
def test_zero_points_and_rounding(rounding: str, signed: bool, zero_point: float) -> None:
    builder = GraphBuilder(3, (1, 3, 6, 6))
    x = builder.quant("x", 4, signed=signed, zero_point=zero_point, rounding=rounding)
    agrees(builder.model(builder.conv(x, 5, pads=(1, 0, 2, 1))))


def test_matmul_auto_pad_and_pools() -> None:
    builder = GraphBuilder(5, (1, 3, 7, 6))
    x = builder.quant("x", 8, signed=True)
    shape = [builder.weights((6, 3, 3, 2), 4)]
    x = builder.node("Conv", [x, *shape], 6, auto_pad="SAME_UPPER", strides=[2, 2])
    x = builder.quant(builder.relu(x), 4)
    x = builder.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = builder.node("ReduceMean", [builder.relu(x)], axes=[2, 3], keepdims=0)
    x = builder.quant(x, 8)
    weights = builder.node("Transpose", [builder.weights((4, 6), 3)], perm=[1, 0])
    x = builder.node("MatMul", [x, weights], 4)
    program = agrees(builder.model(builder.node("Add", [x, builder.constant(np.ones(4))], 4)))
    assert [type(step.anchor) for step in program.steps] == [
        type(None),
        Conv,
        Pool,
        Pool,
        Conv,
    ]


def test_spatial_pad_node_joins_the_convolution() -> None:
    builder = GraphBuilder(6, (1, 3, 6, 6))
    x = builder.quant("x", 4, signed=True)
    x = builder.node("Pad", [x, builder.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64)])
    program = agrees(builder.model(builder.conv(x, 4, pads=(0, 0, 0, 0))))
    anchor = program.steps[-1].anchor
    assert isinstance(anchor, Conv)
    assert anchor.padding == (1, 2, 0, 1)


def test_mean_without_a_quantizer_joins_the_linear_layer() -> None:
    builder = GraphBuilder(12, (1, 3, 6, 5))
    x = builder.block(builder.quant("x", 8, signed=True), 9)
    x = builder.node("Flatten", [builder.node("GlobalAveragePool", [x])], 9)
    program = agrees(builder.model(builder.linear(x, 9, 4)))
    anchor = program.steps[-1].anchor
    assert isinstance(anchor, Conv)
    assert anchor.weights.shape == (4, 6, 5, 9)


def test_flat_input_and_shared_weights() -> None:
    builder = GraphBuilder(13, (2, 12))
    x = builder.quant("x", 8, signed=True)
    weights = builder.weights((12, 12), 4)
    x = builder.node("Gemm", [x, weights], 12, transB=1, alpha=0.5)
    x = builder.quant(builder.relu(builder.batchnorm(x)), 4)
    x = builder.node("Gemm", [x, weights, builder.constant(0.5)], 12, transB=1, beta=2.0)
    agrees(builder.model(x))


def test_difference_of_branches() -> None:
    builder = GraphBuilder(14, (1, 3, 6, 6))
    x = builder.quant("x", 8, signed=True)
    y, z = builder.conv(x, 5), builder.conv(x, 5, bits=2)
    x = builder.quant(builder.node("Sub", [y, builder.relu(z)]), 4, signed=True)
    agrees(builder.model(builder.conv(x, 4)))


def test_channels_padded_to_a_float_that_is_not_zero_there() -> None:
    builder = GraphBuilder(15, (1, 3, 6, 6))
    x = builder.quant("x", 4, signed=True)
    shifted = builder.node("Add", [x, builder.constant(0.7)])
    pads = builder.constant([0, 1, 0, 0, 0, 2, 0, 0], np.int64)
    padded = builder.node("Pad", [shifted, pads], 6)
    x = builder.quant(builder.add(builder.conv(x, 6), padded), 4, signed=True)
    agrees(builder.model(builder.conv(x, 4)))


@pytest.mark.parametrize("bits", [BIPOLAR, 2])
def test_padded_channels_of_codes_with_a_zero_point(bits: int) -> None:
    builder = GraphBuilder(16, (1, 3, 6, 6))
    x = builder.quant("x", bits, **({} if bits == BIPOLAR else {"zero_point": 1.0}))
    pads = builder.constant([0, 1, 0, 0, 0, 2, 0, 0], np.int64)
    padded = builder.node("Pad", [x, pads], 6)
    x = builder.quant(builder.add(builder.conv(x, 6), padded), 4, signed=True)
    agrees(builder.model(builder.conv(x, 4)))


def test_relu_of_a_code_stays_a_code() -> None:
    builder = GraphBuilder(7, (1, 3, 6, 6))
    x = builder.relu(builder.quant("x", 4, signed=True))
    program = agrees(builder.model(builder.conv(x, 4)))
    assert [type(step.anchor) for step in program.steps] == [type(None), Conv]


def test_strided_view_of_a_code_feeds_a_convolution() -> None:
    builder = GraphBuilder(8, (1, 3, 6, 7))
    x = builder.block(builder.quant("x", 8, signed=True), 5)
    limits = [[0, 0], [6, 7], [2, 3], [2, 3]]
    sliced = builder.node("Slice", [x, *(builder.constant(part, np.int64) for part in limits)], 5)
    agrees(builder.model(builder.conv(sliced, 4, 1)))


def test_repeated_quantizer_is_one() -> None:
    builder = GraphBuilder(9, (1, 3, 6, 6))
    x = builder.quant(builder.quant("x", 4, scale=0.3, signed=True), 4, scale=0.3, signed=True)
    program = agrees(builder.model(builder.conv(x, 4)))
    (output,) = program.steps[0].outputs
    assert sum(isinstance(expr, Quant) for expr in walk(output.value)) == 1


def test_scaled_weights_and_scaled_codes() -> None:
    builder = GraphBuilder(10, (1, 3, 6, 6))
    x = builder.node("Mul", [builder.quant("x", 4), builder.constant(0.37)])
    scale = builder.constant(builder.rng.uniform(0.5, 2, (4, 1, 1, 1)))
    weights = builder.node("Mul", [builder.weights((4, 3, 1, 1), 4), scale])
    agrees(builder.model(builder.node("Conv", [x, weights], 4, kernel_shape=[1, 1])))


def test_output_that_is_also_read_as_codes() -> None:
    builder = GraphBuilder(11, (1, 3, 6, 6))
    x = builder.block(builder.quant("x", 8, signed=True), 5)
    y = builder.quant(builder.conv(x, 5), 4, signed=True)
    model = builder.model(y)
    model.graph.output.append(onnx.helper.make_tensor_value_info(x, 1, [1, 5, 6, 6]))
    program = agrees(model)
    assert all(program.tensors[port.tensor].grid is None for port in program.outputs)


def test_long_chains_are_cut() -> None:
    """A kernel of hundreds of operations would be slow to compile and deeper than Python goes."""
    builder = GraphBuilder(0, (1, 3, 4, 4))
    x = builder.quant("x", 8, signed=True)
    for _ in range(300):
        x = builder.node("Tanh", [builder.node("Add", [x, builder.constant(0.1)])])
    y = x
    for _ in range(100):
        y = builder.quant(builder.node("Add", [y, builder.constant(0.1)]), 6, scale=0.05)
    program = agrees(builder.model(builder.add(x, y)))
    assert 5 < len(program.steps) < 30


def test_constants_are_rounded_once() -> None:
    program = integerize(normalize(graphs.residual()))
    for step in program.steps:
        for output in step.outputs:
            for expr in walk(output.value):
                if isinstance(expr, Affine):
                    assert expr.mul.dtype == expr.add.dtype == np.float32


def test_sums_past_int32_are_kept_exact() -> None:
    builder = GraphBuilder(0, (1, 70_000, 1, 1))
    x = builder.quant("x", 8)
    weights = builder.constant(np.full((1, 70_000, 1, 1), 127.0))
    weights = builder.quant(weights, 8, signed=True, scale=1.0)
    program = agrees(builder.model(builder.node("Conv", [x, weights], 1, kernel_shape=[1, 1])))
    step = program.steps[-1]
    codes = {step.reads()[0]: np.full((1, 1, 1, 70_000), 255, np.int32)}
    total = reference.accumulate(step, program.tensors, codes)
    assert total is not None
    assert total.item() == 255 * 127 * 70_000 > 2**31


def test_values_of_different_batches_do_not_meet() -> None:
    builder = GraphBuilder(0, (2, 3, 6, 6))
    x = builder.quant("x", 8)
    y = builder.constant(np.ones((5, 3, 6, 6)))
    with pytest.raises(ModelError):
        integerize(normalize(builder.model(builder.add(x, y))))


def test_accumulators_are_exact_integers() -> None:
    program = integerize(normalize(graphs.conv_chain(weight_bits=8, act_bits=8)))
    port = program.inputs[0]
    x = np.random.default_rng(0).normal(size=port.shape).astype(np.float32)
    values = reference.run(program, {port.name: x})
    step = program.steps[1]
    acc = reference.accumulate(step, program.tensors, values)
    assert acc is not None
    assert acc.dtype == np.int64
    assert isinstance(next(walk(step.outputs[0].value)), Acc)
