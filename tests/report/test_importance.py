"""Importances: a parameter that decides is found, also one that is not always there."""

from __future__ import annotations

import numpy as np

from mpqdeploy.report.importance import importances
from mpqdeploy.search.bomp import Categorical, Ordinal, Outcome, Point, Space, Trial, When

SPACE = Space(
    Ordinal(name="depth", values=(0, 1, 2)),
    Ordinal(name="bits", values=(1, 2, 4, 8), when=When(parent="depth", values=(1, 2))),
    Categorical(name="kind", values=("a", "b")),
    Ordinal(name="fixed", values=(3,)),
)


def trials(count: int, rng: np.random.Generator) -> list[Trial]:
    def accuracy(point: Point) -> float:
        return 0.1 * float(point.get("bits", 0))

    points = [SPACE.sample(rng) for _ in range(count)]
    return [
        Trial(
            number=number,
            state="complete",
            point=point,
            outcome=Outcome(accuracy=accuracy(point), costs={}),
        )
        for number, point in enumerate(points)
    ]


def test_what_decides_comes_first_and_shares_sum_to_one() -> None:
    found = importances(trials(40, np.random.default_rng(0)), SPACE)
    assert next(iter(found)) == "bits"
    assert set(found) == {"depth", "bits", "kind"}
    assert abs(sum(found.values()) - 1) < 1e-6


def test_nothing_is_said_of_few_trials_or_equal_ones() -> None:
    few = trials(3, np.random.default_rng(0))
    assert importances(few, SPACE) == {}
    same = [few[0]] * 10
    assert importances(same, SPACE) == {}
