"""What trials amount to, of trials that were written down."""

from __future__ import annotations

import pytest

from mpqdeploy.core import BudgetError
from mpqdeploy.search.bomp import Outcome, Trial
from mpqdeploy.search.bomp.finding import best_of, front_of, nearest_of
from mpqdeploy.search.bomp.objective import Objective

ACCURACY = Objective(kind="budget")


def trial(number: int, accuracy: float, latency: float, over: float = -0.1) -> Trial:
    made = Trial(
        number=number,
        state="complete",
        point={"bits": 4},
        outcome=Outcome(accuracy=accuracy, costs={"latency": latency}, details={"note": [1]}),
        violations={"latency": over},
    )
    return Trial.from_json(made.to_json())


INSIDE = (trial(0, 0.8, 10.0), trial(1, 0.7, 12.0), trial(2, 0.9, 15.0))
OUTSIDE = (trial(3, 0.99, 30.0, over=0.5), trial(4, 0.5, 24.0, over=0.2))
FAILED = Trial.from_json(
    Trial(number=5, state="failed", point={}, reason="training diverged.").to_json()
)


def test_the_front_is_of_those_inside_that_nobody_beats() -> None:
    assert front_of((*INSIDE, *OUTSIDE, FAILED), "latency") == (INSIDE[0], INSIDE[2])
    assert front_of(OUTSIDE, "latency") == ()


def test_the_best_is_inside_however_good_others_are() -> None:
    assert best_of((*INSIDE, *OUTSIDE, FAILED), ACCURACY) == INSIDE[2]


def test_where_none_is_inside_the_nearest_is_named() -> None:
    with pytest.raises(BudgetError, match=r"none of 2 .* trial 4 is the nearest: latency 20\.0 %"):
        best_of((*OUTSIDE, FAILED), ACCURACY)
    assert nearest_of((*OUTSIDE, FAILED)) == OUTSIDE[1]


def test_where_all_failed_the_first_reason_is_given() -> None:
    with pytest.raises(BudgetError, match=r"none of 1 trials .*trial 5: training diverged\."):
        best_of((FAILED,), ACCURACY)
    assert nearest_of((FAILED,)) is None
