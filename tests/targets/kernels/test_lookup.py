"""Table-lookup convolutions against exact integer arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.lookup import LOOKUP
from mpqdeploy.targets.kernels.lookup_nest import flush_plan
from tests.targets.kernels.convolutions import Case, check, convolution, runs_here
from tests.targets.kernels.strategies import convolutions

LEVELS = [isa for isa in (Isa.VNNI, Isa.AVX2) if runs_here(isa)]
ONE_BIT = ["b", "u1", "s1"]
ACTS = ["b", "u1", "u2", "s2", "u4", "s4"]
each_level = pytest.mark.parametrize("isa", LEVELS)


def cases(isa: Isa) -> st.SearchStrategy[Case]:
    return convolutions(
        weights=ONE_BIT if isa == Isa.VNNI else [*ONE_BIT, "s2", "n2", "u2"],
        acts=ACTS,
        channels=[16, 17, 33, 100],
        outs=[10, 16, 17, 33, 64],
        width=12,
    )


@each_level
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data(), extra=st.integers(0, 1))
def test_exact_for_every_geometry_and_width(isa: Isa, data: st.DataObject, extra: int) -> None:
    case = data.draw(cases(isa))
    assert LOOKUP.matches(case.step, case.tensors, isa)
    check(case, LOOKUP, isa, extra)


@each_level
@pytest.mark.parametrize("acts", ACTS)
@pytest.mark.parametrize("weights", ["b", "u1"])
def test_bytes_are_flushed_before_they_overflow(isa: Isa, acts: str, weights: str) -> None:
    case = convolution(image=(1, 4, 8, 64), out=16, weights=weights, acts=acts)
    grid = case.tensors["x"].grid
    assert grid is not None
    case.codes[:] = grid.high
    case.conv.weights[:] = case.conv.weight_grid.high
    check(case, LOOKUP, isa)
    case.conv.weights[:] = case.conv.weight_grid.low
    check(case, LOOKUP, isa)


@pytest.mark.parametrize("trips", [(3, 3, 4), (3, 3, 16), (1, 1, 36), (5, 5, 32)])
@pytest.mark.parametrize("limit", [4, 21, 63])
def test_flush_plan_keeps_to_the_limit(trips: tuple[int, int, int], limit: int) -> None:
    depth, run = flush_plan(trips, limit)
    rows, columns, groups = trips
    lookups = (rows * columns * groups, columns * groups, groups, run)[depth]
    assert 0 < lookups <= limit
    assert groups % run == 0


def test_declines_wide_operands_and_other_levels() -> None:
    wide = convolution(image=(1, 8, 8, 16), out=16, weights="s4", acts="u2")
    assert not LOOKUP.matches(wide.step, wide.tensors, Isa.AVX2)
    narrow = convolution(image=(1, 8, 8, 16), out=16, weights="b", acts="u2")
    assert LOOKUP.matches(narrow.step, narrow.tensors, Isa.VNNI)
    assert not LOOKUP.matches(narrow.step, narrow.tensors, Isa.PORTABLE)
