from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Geometry, Precision
from mpqdeploy.targets.layout import Layout, buffer_shape, storage_offset
from mpqdeploy.targets.program import Clip, Conv, Grid, Quant, Tensor, walk
from mpqdeploy.targets.synthesize import INPUT, OUTPUT, act_grid, random_buffer, synthesize
from tests.targets.fakes import CopyKernel

GEOMETRY = Geometry(
    op="conv",
    in_channels=16,
    out_channels=24,
    in_size=(9, 7),
    kernel=(3, 5),
    stride=(2, 1),
    padding=(1, 2, 1, 2),
    groups=2,
)
bits = st.integers(1, 8)


@settings(max_examples=30, deadline=None)
@given(weight_bits=bits, act_bits=bits, signed=st.booleans())
def test_tensors_and_weights_are_those_of_the_layer(
    weight_bits: int, act_bits: int, signed: bool
) -> None:
    geometry = Geometry(**{**GEOMETRY.__dict__, "act_signed": signed})
    work = synthesize(geometry, Precision(weight_bits=weight_bits, act_bits=act_bits))
    conv = work.step.anchor
    assert isinstance(conv, Conv)
    assert conv.weights.shape == (24, 3, 5, 8)
    allowed = {-1, 1} if weight_bits == 1 else set(range(1 - 2 ** (weight_bits - 1), 128))
    assert set(np.unique(conv.weights)) <= allowed
    assert conv.weights.max() <= conv.weight_grid.high
    assert work.tensors[INPUT].shape == (1, 9, 7, 16)
    assert work.tensors[OUTPUT].shape == (1, *GEOMETRY.out_size, 24)
    for tensor in work.tensors.values():
        assert tensor.grid is not None
        assert tensor.grid.bits == act_bits
        assert tensor.grid.bipolar == (signed and act_bits == 1)
    assert work.step.reads() == (INPUT,)


@pytest.mark.parametrize("signed", [False, True])
def test_the_epilogue_is_that_of_a_layer(signed: bool) -> None:
    geometry = Geometry(op="linear", in_channels=8, out_channels=4, act_signed=signed)
    work = synthesize(geometry, Precision(weight_bits=4, act_bits=4))
    (output,) = work.step.outputs
    kinds = [type(expr) for expr in walk(output.value)]
    assert kinds[-1] is Quant
    assert (Clip in kinds) is not signed


def test_output_codes_cover_their_grid() -> None:
    from mpqdeploy.targets.reference import run_step

    work = synthesize(GEOMETRY, Precision(weight_bits=4, act_bits=3))
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, work.tensors[INPUT].shape)
    outputs = run_step(work.step, work.tensors, {INPUT: codes})
    assert set(np.unique(outputs[OUTPUT])) == set(range(8))


def test_equal_seeds_give_equal_weights() -> None:
    first, second = (synthesize(GEOMETRY, Precision(weight_bits=2, act_bits=2)) for _ in range(2))
    assert isinstance(first.step.anchor, Conv)
    assert isinstance(second.step.anchor, Conv)
    assert np.array_equal(first.step.anchor.weights, second.step.anchor.weights)


def test_input_and_output_are_laid_out_as_the_kernel_reads() -> None:
    work = synthesize(GEOMETRY, Precision(weight_bits=2, act_bits=2))
    layouts = work.layouts(CopyKernel("copy", [1]))
    assert layouts[INPUT] == layouts[OUTPUT] == (Layout(kind="bytes", padding=(1, 1, 1, 1)),)


@settings(max_examples=30, deadline=None)
@given(width=bits, signed=st.booleans(), channels=st.integers(1, 70))
def test_random_buffers_hold_codes_of_the_grid(width: int, signed: bool, channels: int) -> None:
    grid = act_grid(width, signed=signed)
    tensor = Tensor(name="x", shape=(1, 4, 4, channels), grid=grid)
    plain, packed = Layout(kind="bytes", padding=(1, 0, 1, 2)), Layout(kind="bits")
    stored = random_buffer(tensor, plain)
    assert stored.shape == buffer_shape(tensor, plain)
    codes = stored.astype(int) + storage_offset(grid)
    assert grid.low <= codes.min() <= codes.max() <= grid.high
    words = random_buffer(tensor, packed)
    assert words.shape == buffer_shape(tensor, packed)
    bits_of = (words[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    assert not bits_of.reshape(*words.shape[:-1], -1)[..., channels:].any()
    assert bits_of.any()


def test_a_float_buffer_is_float() -> None:
    tensor = Tensor(name="x", shape=(1, 4, 5, 3))
    assert random_buffer(tensor, Layout(kind="float")).dtype == np.float32
    assert Grid(bits=1, signed=True, bipolar=True).low == -1
