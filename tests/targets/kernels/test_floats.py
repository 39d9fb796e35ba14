"""Kernels over float32 against the oracle, on every instruction-set level."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.float_conv import FloatConvolution
from mpqdeploy.targets.kernels.float_given import GivenKernel
from mpqdeploy.targets.kernels.float_matmul import MatMulKernel
from mpqdeploy.targets.kernels.float_norm import NormalizationKernel
from mpqdeploy.targets.kernels.float_pool import FloatPooling, SoftmaxKernel
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Given, MatMul, Normalization, Softmax, Tensor
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import CHANNELS, convolutions, pools, step_case


@st.composite
def over_channels(draw: Any, anchor: Softmax | Normalization) -> Case:
    channels = draw(st.sampled_from(CHANNELS))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), channels)
    source = Tensor(name="source", shape=shape)
    return step_case(draw, (source,), anchor, shape, 1.0)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=6, deadline=None)
@given(case=convolutions(floats=True), number=st.integers(0, 7))
def test_convolutions_agree_with_the_oracle(isa: Isa, case: Case, number: int) -> None:
    require(isa)
    kernel = FloatConvolution()
    assert kernel.matches(case.step, case.tensors, isa)
    schedules = kernel.schedules(case.step, case.tensors, isa)
    check(kernel, case, isa, schedule=schedules[number % len(schedules)])


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=6, deadline=None)
@given(case=pools(floats=True))
def test_pools_agree_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert FloatPooling().matches(case.step, case.tensors, isa)
    check(FloatPooling(), case, isa)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=6, deadline=None)
@given(case=over_channels(Softmax(input="source")))
def test_softmax_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert SoftmaxKernel().matches(case.step, case.tensors, isa)
    check(SoftmaxKernel(), case, isa)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=over_channels(Normalization(input="source", epsilon=1e-3)), reals=st.booleans())
def test_normalization_agrees_with_the_oracle(isa: Isa, case: Case, reals: bool) -> None:
    """Of a model's input, too, which is no reals."""
    require(isa)
    kernel = NormalizationKernel()
    layout = Layout(kind="reals" if reals else "float")
    case = replace(case, layouts={**case.layouts, "source": (layout,)})
    assert kernel.matches(case.step, case.tensors, isa)
    check(kernel, case, isa)


@st.composite
def products(draw: Any) -> Case:
    """Matrices below each other, of any sizes but no inner one that rounding would leave open."""
    batch, count, rows, inner = (draw(st.integers(1, most)) for most in (2, 3, 4, 20))
    columns = draw(st.sampled_from(CHANNELS))
    left = Tensor(name="left", shape=(batch, 1, count * rows, inner))
    right = Tensor(name="right", shape=(batch, 1, count * inner, columns))
    anchor = MatMul(input="left", right="right", count=count)
    shape = (batch, 1, count * rows, columns)
    return step_case(draw, (left, right), anchor, shape, float(inner))


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=10, deadline=None)
@given(case=products(), reals=st.tuples(st.booleans(), st.booleans()))
def test_products_of_two_tensors_agree_with_the_oracle(
    isa: Isa, case: Case, reals: tuple[bool, bool]
) -> None:
    require(isa)
    kinds = {"left": reals[0], "right": reals[1]}
    read = {name: (Layout(kind="reals" if way else "float"),) for name, way in kinds.items()}
    case = replace(case, layouts={**case.layouts, **read})
    assert MatMulKernel().matches(case.step, case.tensors, isa)
    check(MatMulKernel(), case, isa)


@st.composite
def constants(draw: Any) -> Case:
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), 3, draw(st.sampled_from(CHANNELS)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    anchor = Given(values=rng.normal(size=shape).astype(np.float32))
    return step_case(draw, (), anchor, shape, 1.0)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=6, deadline=None)
@given(case=constants())
def test_constants_agree_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert GivenKernel().matches(case.step, case.tensors, isa)
    check(GivenKernel(), case, isa)
