"""Fronts and hypervolumes, held to definitions that are slow and plain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from mpqdeploy.search.bomp.front import Pair, hypervolume, hypervolume_curve, pareto

# A coarse grid, so that ties and repetitions come up.
PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def dominates(one: Pair, other: Pair) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def counted(pairs: list[tuple[int, int]], reference: tuple[int, int]) -> int:
    """Unit squares between the reference and any pair."""
    floor, ceiling = reference
    return sum(
        any(accuracy > a and cost <= c for accuracy, cost in pairs)
        for a in range(floor, 7)
        for c in range(0, ceiling)
    )


@given(PAIRS)
def test_the_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    front = pareto(pairs)
    expected = {p for p in pairs if not any(dominates(q, p) for q in pairs)}
    assert {pairs[position] for position in front} == expected
    assert len(front) == len(expected)
    costs = [pairs[position][1] for position in front]
    assert costs == sorted(costs)
    assert all(position == pairs.index(pairs[position]) for position in front)


@given(PAIRS, st.integers(0, 3), st.integers(3, 7))
def test_hypervolume_is_the_area(pairs: list[tuple[int, int]], floor: int, ceiling: int) -> None:
    assert hypervolume(pairs, (floor, ceiling)) == counted(pairs, (floor, ceiling))


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(1, 99)), min_size=1, max_size=12))
def test_hypervolume_agrees_with_optunas(pairs: list[Pair]) -> None:
    import numpy as np

    losses = np.array([[-accuracy, cost] for accuracy, cost in pairs])
    theirs = compute_hypervolume(losses, np.array([0.0, 100.0]))
    assert hypervolume(pairs, (0.0, 100.0)) == pytest.approx(theirs)


@given(PAIRS)
def test_the_curve_is_the_hypervolume_so_far(pairs: list[tuple[int, int]]) -> None:
    curve = hypervolume_curve([*pairs, None], (0, 7))
    wanted = [hypervolume(pairs[: n + 1], (0, 7)) for n in range(len(pairs))]
    assert list(curve) == [*wanted, wanted[-1] if wanted else 0]
