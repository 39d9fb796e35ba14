"""The pooling kernel against the oracle, on every instruction-set level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.pool import Pooling
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Acc, Affine, Grid, Output, Pool, Step, Tensor
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import pools


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=pools())
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Pooling().matches(case.step, case.tensors, isa)
    check(Pooling(), case, isa)


@pytest.mark.parametrize("isa", Isa)
def test_maximum_ignores_padding_where_all_codes_are_below_zero(isa: Isa) -> None:
    """Codes of -8 .. 7 with zero point 7: a padded tap would win every window that it is in."""
    grid = Grid(bits=4, signed=True)
    point = np.array([7], np.float32)
    pool = Pool(input="source", kind="max", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    case = Case(
        step=Step(name="step", anchor=pool, outputs=(Output(tensor="out", value=Acc()),)),
        tensors={
            "source": Tensor(name="source", shape=(1, 7, 7, 17), grid=grid, zero_point=point),
            "out": Tensor(name="out", shape=(1, 4, 4, 17), grid=grid, zero_point=point),
        },
        layouts={
            "source": (Layout(kind="bytes"),),
            "out": (Layout(kind="bytes", padding=(1, 1, 1, 1)), Layout(kind="bits")),
        },
    )
    assert check(Pooling(), case, isa, exact=True) == 0


@pytest.mark.parametrize("isa", Isa)
def test_global_average_of_float_output(isa: Isa) -> None:
    """A window over the whole image, its divisor in the epilogue."""
    pool = Pool(input="source", kind="sum", kernel=(8, 8), stride=(1, 1))
    divided = Affine(x=Acc(), mul=np.float32([1 / 64]), add=np.float32([0]))
    case = Case(
        step=Step(name="step", anchor=pool, outputs=(Output(tensor="out", value=divided),)),
        tensors={
            "source": Tensor(name="source", shape=(2, 8, 8, 33), grid=Grid(bits=8, signed=False)),
            "out": Tensor(name="out", shape=(2, 1, 1, 33)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(1, 1, 1, 1)),),
            "out": (Layout(kind="float"),),
        },
    )
    assert check(Pooling(), case, isa, exact=True) == 0
