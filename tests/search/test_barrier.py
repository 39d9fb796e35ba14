from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.search.barrier import UNIT, Barrier, BarrierKind, normalise

KINDS: tuple[BarrierKind, ...] = ("double_log", "log")
kinds = st.sampled_from(KINDS)
gaps = st.floats(-UNIT, UNIT)
corners = st.floats(0.01, 0.5)


def value_and_slope(barrier: Barrier, gap: float) -> tuple[float, float]:
    """Penalty and its derivative with respect to the expected cost."""
    expected = torch.tensor(-gap, dtype=torch.float64, requires_grad=True)
    value = barrier(expected, torch.zeros((), dtype=torch.float64))
    value.backward()
    assert expected.grad is not None
    return value.item(), expected.grad.item()


@given(kinds, gaps, corners)
def test_gradient_is_the_finite_difference(kind: BarrierKind, gap: float, corner: float) -> None:
    barrier = Barrier(kind=kind, weight=1.0, corner=corner)
    step = 1e-6
    _, slope = value_and_slope(barrier, gap)
    ahead, _ = value_and_slope(barrier, gap - step)
    behind, _ = value_and_slope(barrier, gap + step)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-5)


@given(kinds, corners)
def test_value_and_slope_are_continuous_at_both_joints(kind: BarrierKind, corner: float) -> None:
    barrier = Barrier(kind=kind, weight=1.0, corner=corner)
    for joint in (corner, 0.0):
        value_in, slope_in = value_and_slope(barrier, joint + 1e-9)
        value_out, slope_out = value_and_slope(barrier, joint - 1e-9)
        assert value_in == pytest.approx(value_out, abs=1e-6)
        assert slope_in == pytest.approx(slope_out, rel=1e-5)


@given(kinds, gaps, gaps)
def test_monotone_and_convex_in_the_cost(kind: BarrierKind, one: float, two: float) -> None:
    barrier = Barrier(kind=kind, weight=1.0)
    near, far = sorted((one, two))
    value_near, slope_near = value_and_slope(barrier, near)
    value_far, slope_far = value_and_slope(barrier, far)
    assert value_near >= value_far
    assert slope_near >= slope_far * (1 - 1e-12) > 0


def test_quiet_inside_and_loud_outside() -> None:
    barrier = Barrier(weight=1.0)
    assert value_and_slope(barrier, UNIT / 2)[1] < 0.1
    assert value_and_slope(barrier, 0.2)[1] > 4
    assert value_and_slope(barrier, -1.0)[1] > 50


def test_several_budgets_at_once_keep_their_shape() -> None:
    expected = torch.tensor([1.0, 5.0, 9.0], requires_grad=True)
    penalty = Barrier()(expected, torch.tensor([2.0, 5.0, 4.0]))
    penalty.sum().backward()
    assert penalty.shape == (3,)
    assert expected.grad is not None
    assert bool(torch.isfinite(expected.grad).all())


def test_normalised_range_has_the_documented_length() -> None:
    least, greatest = torch.tensor(3.0), torch.tensor(11.0)
    assert float(normalise(least, least, greatest)) == 0.0
    assert float(normalise(greatest, least, greatest)) == UNIT
