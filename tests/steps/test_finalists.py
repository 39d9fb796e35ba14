"""Which networks of a front are trained in full."""

from __future__ import annotations

import pytest

from mpqdeploy.search.bomp import Outcome, Trial
from mpqdeploy.steps.finalists import chosen


def trial(number: int) -> Trial:
    outcome = Outcome(accuracy=0.5 + 0.01 * number, costs={"latency": 10.0 + number})
    return Trial(number=number, state="complete", point={}, outcome=outcome)


FRONT = tuple(trial(number) for number in range(10))


@pytest.mark.parametrize(
    ("best", "most", "numbers"),
    [
        (9, 1, [9]),
        (9, 2, [0, 9]),
        (9, 3, [0, 8, 9]),
        (9, 4, [0, 4, 8, 9]),
        (4, 3, [0, 4, 9]),
        (0, 99, list(range(10))),
    ],
)
def test_the_best_and_others_evenly_along_the_front(
    best: int, most: int, numbers: list[int]
) -> None:
    assert [one.number for one in chosen(FRONT, FRONT[best], most)] == numbers


def test_a_best_one_beside_the_front_is_among_them() -> None:
    """A score may prefer one that another beats in both."""
    assert [one.number for one in chosen(FRONT[:2], FRONT[7], 2)] == [0, 7]
