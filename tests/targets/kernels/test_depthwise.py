"""The depthwise convolution against the oracle, on every instruction-set level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.depthwise import Depthwise
from mpqdeploy.targets.kernels.depthwise_micro import exact_run
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Acc, Conv, Grid, Output, Step, Tensor
from tests.targets.kernels.harness import Case, check, require
from tests.targets.kernels.steps import convolutions


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=convolutions(depthwise=True))
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Depthwise().matches(case.step, case.tensors, isa)
    check(Depthwise(), case, isa)


@pytest.mark.parametrize(("bits", "largest"), [(4, 15), (4, 255), (8, 15), (8, 255), (2, 255)])
def test_runs_hold_the_largest_sums_in_16_bits(bits: int, largest: int) -> None:
    grid = Grid(bits=bits, signed=True)
    run = exact_run(largest, grid)
    assert run * largest * -grid.low < 2**15 <= (run + 1) * largest * -grid.low


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize("act_bits", [2, 4, 8])
def test_is_exact_on_extreme_codes(isa: Isa, weight_bits: int, act_bits: int) -> None:
    """A 5x5 filter of the lowest weight over codes on a narrow range at the top."""
    grid = Grid(bits=weight_bits, signed=True)
    conv = Conv(
        input="source",
        weights=np.full((16, 5, 5, 1), grid.low, np.int32),
        weight_grid=grid,
        padding=(2, 2, 2, 2),
        groups=16,
    )
    case = Case(
        step=Step(name="step", anchor=conv, outputs=(Output(tensor="out", value=Acc()),)),
        tensors={
            "source": Tensor(
                name="source", shape=(1, 5, 6, 16), grid=Grid(bits=act_bits, signed=False)
            ),
            "out": Tensor(name="out", shape=(1, 5, 6, 16)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(2, 2, 2, 2)),),
            "out": (Layout(kind="float"),),
        },
    )
    assert check(Depthwise(), case, isa, exact=True) == 0
