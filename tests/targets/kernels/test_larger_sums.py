"""A step with larger sums and smaller scales makes the same floats, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.kernels.bounds import magnitude
from mpqdeploy.targets.kernels.larger_sums import with_larger_sums
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Floats,
    Grid,
    Output,
    Quant,
    Step,
    Sum,
)
from mpqdeploy.targets.reference import evaluate
from tests.targets.kernels.convolutions import Case, convolution

NIBBLE = Grid(bits=4, signed=False)


def step_of(*values: Expr) -> tuple[Case, Step]:
    case = convolution(image=(1, 5, 5, 40), out=20, weights="b", acts="u4")
    outputs = tuple(Output(tensor="y", value=value) for value in values)
    return case, replace(case.step, outputs=outputs)


def scaled(mul: float | Floats, x: Expr | None = None) -> Affine:
    values = np.atleast_1d(np.asarray(mul, np.float32))
    return Affine(x=x or Acc(), mul=values, add=np.float32([0.37]))


def real(step: Step, case: Case, sums: np.ndarray) -> np.ndarray:
    shape = (1, 1, len(sums), 1)
    acc = sums.reshape(shape)
    return evaluate(step.outputs[0].value, acc, shape, case.tensors, {}, {})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    sums=st.lists(st.integers(-(1 << 24), 1 << 24), min_size=1, max_size=20),
    mul=st.floats(2.0**-60, 2.0**20, width=32),
    bits=st.integers(1, 6),
)
def test_scaled_sums_are_the_same_floats(sums: list[int], mul: float, bits: int) -> None:
    """Those beyond 2^24 among them, which a float32 rounds."""
    case, step = step_of(scaled(mul))
    larger, left = with_larger_sums(step, bits)
    assert left == 0
    wanted = real(step, case, np.array(sums, np.int64))
    found = real(larger, case, np.array(sums, np.int64) << bits)
    np.testing.assert_array_equal(found, wanted)


def test_what_is_proven_of_values_stays_so() -> None:
    """The weights are larger with the sums: only together are they the same step."""
    value = Quant(x=Clip(x=scaled(0.01), low=0.0, high=np.inf), grid=NIBBLE)
    case, step = step_of(value)
    larger, left = with_larger_sums(step, 6)
    assert left == 0
    assert isinstance(larger.anchor, Conv)
    np.testing.assert_array_equal(larger.anchor.weights, case.conv.weights * 64)
    assert magnitude(Acc(), larger, case.tensors) == 64 * magnitude(Acc(), step, case.tensors)
    before = magnitude(value.x, step, case.tensors)
    found = larger.outputs[0].value
    assert isinstance(found, Quant)
    assert magnitude(found.x, larger, case.tensors) == pytest.approx(before)


def test_what_outputs_share_stays_one_object() -> None:
    code = Quant(x=scaled(0.3), grid=Grid(bits=8, signed=False))
    _, step = step_of(code, Quant(x=scaled(0.1, code), grid=NIBBLE))
    larger, left = with_larger_sums(step, 2)
    assert left == 0
    first, second = (output.value for output in larger.outputs)
    assert isinstance(second, Quant)
    assert isinstance(second.x, Affine)
    assert second.x.x is first
    assert (second.x.mul == np.float32(0.1)).all(), "scales of codes are none of sums"


@pytest.mark.parametrize(
    "value",
    [
        Acc(),
        Quant(x=Acc(), grid=NIBBLE),
        Sum(x=scaled(0.5), y=Acc()),
        scaled(np.array([1.0, 2.0**-125], np.float32)),
    ],
    ids=["as they are", "rounded", "added", "a scale without room"],
)
def test_other_readers_of_sums_want_them_as_they_are(value: Expr) -> None:
    _, step = step_of(value)
    assert with_larger_sums(step, 6) == (step, 6)


def test_sums_as_large_are_the_step_itself() -> None:
    _, step = step_of(scaled(0.5))
    assert with_larger_sums(step, 0) == (step, 0)
