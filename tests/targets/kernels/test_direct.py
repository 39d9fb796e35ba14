"""The catch-all convolution against the oracle, on every instruction-set level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.direct import Direct, Windows
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Acc, Conv, Grid, Output, Step, Tensor
from tests.targets.kernels.harness import Case, check, require
from tests.targets.kernels.steps import BIPOLAR, convolutions

SIGNED8 = Grid(bits=8, signed=True)


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
    case = extreme(Grid(bits=8, signed=False), SIGNED8, value, 255)
    assert check(Direct(), case, isa, exact=True) == 0


def test_refuses_what_int32_cannot_hold() -> None:
    weights = np.full((1, 1, 1, 30000), 127, np.int32)
    conv = Conv(input="source", weights=weights, weight_grid=SIGNED8)
    tensors = {
        "source": Tensor(name="source", shape=(1, 1, 1, 30000), grid=Grid(bits=8, signed=False)),
        "out": Tensor(name="out", shape=(1, 1, 1, 1)),
    }
    step = Step(name="step", anchor=conv, outputs=(Output(tensor="out", value=Acc()),))
    assert Direct().matches(step, tensors, Isa.AVX2)
    wider = Conv(input="source", weights=np.tile(weights, 3), weight_grid=SIGNED8)
    step = Step(name="step", anchor=wider, outputs=(Output(tensor="out", value=Acc()),))
    assert not Direct().matches(step, tensors, Isa.AVX2)
