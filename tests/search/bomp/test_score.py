"""The scalarised score and the distance from budgets."""

from __future__ import annotations

import math

import pytest

from mpqdeploy.core import Budget, ConfigError
from mpqdeploy.search.bomp.score import Score, excess, violations


def test_the_score_is_the_formula() -> None:
    score = Score(metric="bytes", accuracy_reference=0.8, cost_reference=1e4, weight=0.5)
    assert score.of(0.8, 1e4) == pytest.approx(1 - 0.5)
    assert score.of(0.4, 1e2) == pytest.approx(0.5 - 0.5 * 0.5)
    # Halving the cost is worth the same at every size.
    gains = [score.of(0.7, cost / 2) - score.of(0.7, cost) for cost in (10, 1e3, 1e6)]
    assert gains == pytest.approx([0.5 * math.log10(2) / 4] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy_reference": 0.0}, "accuracy reference"),
        ({"cost_reference": 1.0}, "unit of bops"),
    ],
)
def test_references_that_cannot_divide_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Score(**{"metric": "bops", "accuracy_reference": 0.9, "cost_reference": 1e6, **change})  # type: ignore[arg-type]


def test_violations_are_shares_of_the_limit() -> None:
    budgets = (Budget(metric="bytes", limit=100.0), Budget(metric="latency", limit=10.0))
    over = violations({"bytes": 130.0, "latency": 5.0, "bops": 1.0}, budgets)
    assert over == pytest.approx({"bytes": 0.3, "latency": -0.5})
    assert excess(over) == pytest.approx(0.3)
    assert excess({"bytes": 0.0}) == 0
