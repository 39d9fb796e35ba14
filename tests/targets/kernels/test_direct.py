"""The catch-all convolution against the oracle, on every instruction-set level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets import reference
from mpqdeploy.targets.codec import decode
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS
from mpqdeploy.targets.kernels.direct import Direct, Windows
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Conv,
    Expr,
    Grid,
    Output,
    Quant,
    Step,
    Tensor,
)
from tests.targets.kernels.harness import Case, check, run
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import BIPOLAR, convolutions

SIGNED8 = Grid(bits=8, signed=True)
CODES8 = Grid(bits=8, signed=False)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=convolutions())
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Direct().matches(case.step, case.tensors, isa)
    check(Direct(), case, isa)


def test_window_covers_the_groups_of_a_block_only() -> None:
    """8 groups of 4 inputs and 4 outputs: a block of 16 outputs reads 16 of the 32 inputs."""
    weights = np.ones((32, 1, 1, 4), np.int32)
    conv = Conv(input="x", weights=weights, weight_grid=BIPOLAR, groups=8)
    windows = Windows.of(conv, 16)
    assert windows.depth == 16
    assert windows.first.tolist() == [0, 16]
    assert windows.codes.sum() == weights.sum()
    assert windows.grid.bits == 2  # a bipolar weight cannot be absent


def extreme(source: Grid, weight: Grid, value: int, code: int) -> Case:
    """All weights `value`, all codes `code`: the largest sums that the widths allow."""
    weights = np.full((16, 3, 3, 64), value, np.int32)
    conv = Conv(input="source", weights=weights, weight_grid=weight, padding=(1, 1, 1, 1))
    shape = (1, 4, 5, 64)
    return Case(
        step=Step(name="step", anchor=conv, outputs=(Output(tensor="out", value=Acc()),)),
        tensors={
            "source": Tensor(
                name="source", shape=shape, grid=source, zero_point=np.float32([code // 2])
            ),
            "out": Tensor(name="out", shape=(1, 4, 5, 16)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(1, 1, 1, 1)),),
            "out": (Layout(kind="float"),),
        },
    )


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("value", [-128, 127])
def test_is_exact_on_extreme_weights(isa: Isa, value: int) -> None:
    case = extreme(CODES8, SIGNED8, value, 255)
    assert check(Direct(), case, isa, exact=True) == 0


def long_sum(inputs: int, value: int, zero: int, out: Grid | None) -> Case:
    """16 sums over `inputs` channels, written as they are or as codes: the weights of one are all
    `value`, the next one's first half nearly cancels the second."""
    weights = np.full((16, 1, 1, inputs), value, np.int32)
    weights[1::2, ..., : inputs // 2] = -value - 1 if value > 0 else -value - 2
    conv = Conv(input="source", weights=weights, weight_grid=SIGNED8)
    shape = (1, 1, 2, 16)
    written: Expr = Acc()
    if out is not None:
        mul = np.float32([2.0**-26])
        written = Quant(x=Affine(x=written, mul=mul, add=np.float32([0.25])), grid=out)
    return Case(
        step=Step(name="step", anchor=conv, outputs=(Output(tensor="out", value=written),)),
        tensors={
            "source": Tensor(
                name="source", shape=(1, 1, 2, inputs), grid=CODES8, zero_point=np.float32([zero])
            ),
            "out": Tensor(name="out", shape=shape, grid=out),
        },
        layouts={
            "source": (Layout(kind="bytes"),),
            "out": (Layout(kind="float" if out is None else "bytes"),),
        },
    )


# Where 2 * 255 * 128 * inputs passes 2^31, from which on int32 is not proven wide enough.
BOUND = (2**31 - 1) // (2 * 255 * 128)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    inputs=st.sampled_from((BOUND - 1, BOUND, BOUND + 1, 2 * BOUND, 2 * BOUND + 2, 3 * BOUND + 5)),
    value=st.sampled_from((-128, 127)),
    zero=st.sampled_from((0, 255, 100)),
    out=st.sampled_from((None, SIGNED8)),
)
def test_sums_around_the_end_of_int32(
    isa: Isa, inputs: int, value: int, zero: int, out: Grid | None
) -> None:
    """All codes at one end of their grid, so that sums reach what the bound allows."""
    require(isa)
    case = long_sum(inputs, value, zero, out)
    kernel = Direct()
    assert kernel.matches(case.step, case.tensors, isa)
    codes = np.full((1, 1, 2, inputs), 255, np.int32)
    codes[:, :, 1] = 0
    results = run(kernel, case, isa, {"source": codes})
    wanted = reference.run_step(case.step, case.tensors, {"source": codes})["out"]
    for buffer, result in results.items():
        found = decode(case.tensors["out"], buffer.layout, result)
        np.testing.assert_array_equal(found, wanted)


def test_int32_is_left_only_where_it_is_not_proven() -> None:
    kernel = Direct()
    for inputs, dtype in ((BOUND, "int32"), (BOUND + 1, "int64")):
        case = long_sum(inputs, -128, 0, None)
        schedule = kernel.schedules(case.step, case.tensors, Isa.AVX2)[0]
        emitted = kernel.emit(case.step, case.tensors, case.layouts, Isa.AVX2, schedule)
        assert [c.dtype for c in emitted.constants if c.size == 16] == [np.dtype(dtype)]
        others = [k.name for k in KERNELS if k.matches(case.step, case.tensors, Isa.AVX2)]
        assert ("dot_avx2" in others) == (dtype == "int32")
        assert "direct" in others
