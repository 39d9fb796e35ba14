"""Which trial is the better one."""

from __future__ import annotations

import pytest

from mpqdeploy.core import Budget, ConfigError
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.score import Score
from mpqdeploy.search.bomp.trial import Outcome, Trial
from tests.search.bomp.problems import completed

LIMIT = Budget(metric="bytes", limit=100.0)


def trial(number: int, accuracy: float, size: float) -> Trial:
    return completed(number, {}, Outcome(accuracy=accuracy, costs={"bytes": size}), LIMIT)


def numbers(objective: Objective, *trials: Trial) -> list[int]:
    return [ordered.number for ordered in objective.order(trials)]


def test_inside_the_budget_accuracy_counts_outside_the_distance() -> None:
    trials = [trial(0, 0.9, 150), trial(1, 0.5, 90), trial(2, 0.6, 100), trial(3, 0.8, 120)]
    failed = Trial(number=4, state="failed", point={}, reason="no")
    assert numbers(Objective(), *trials, failed) == [2, 1, 3, 0]


def test_the_score_counts_where_it_is_asked_for() -> None:
    score = Score(metric="bytes", accuracy_reference=1.0, cost_reference=100.0, weight=1.0)
    objective = Objective(kind="score", score=score)
    assert numbers(objective, trial(0, 0.6, 100), trial(1, 0.5, 10)) == [1, 0]


def test_front_by_front_those_that_stand_alone_first() -> None:
    objective = Objective(kind="front", metric="bytes")
    first = [trial(0, 0.1, 10), trial(1, 0.5, 50), trial(2, 0.55, 52), trial(3, 0.9, 90)]
    second = [trial(4, 0.05, 10), trial(5, 0.4, 95)]
    outside = trial(6, 1.0, 101)
    order = numbers(objective, outside, *second, *first)
    assert set(order[:2]) == {0, 3}
    assert order[2:4] == [1, 2] or order[2:4] == [2, 1]
    assert set(order[4:6]) == {4, 5}
    assert order[6] == 6


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Objective(), "no budget"),
        (Objective(kind="score"), "no score"),
        (Objective(kind="front"), "no metric"),
        (Objective(kind="best"), "no objective 'best'"),  # type: ignore[arg-type]
    ],
)
def test_what_an_objective_lacks_is_named(objective: Objective, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objective.check(())
