"""What the benchmark of BOMP-NAS races on, what it counts, and that a killed one continues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from studying import races, recorded
from studying.functions import Function, functions, hartmann

from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.search.bomp.front import hypervolume
from mpqdeploy.ui import Ui

QUIET = Ui(quiet=True)


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.name)
def test_a_function_has_networks_inside_its_budget_and_outside(function: Function) -> None:
    rng = np.random.default_rng(0)
    outcomes = [function.evaluate(function.space.sample(rng)) for _ in range(200)]
    assert len({outcome.accuracy for outcome in outcomes}) > 100
    for budget in function.budgets:
        inside = [budget.holds(outcome.costs[budget.metric]) for outcome in outcomes]
        assert 0.02 < np.mean(inside) < 0.98
    if function.reference is not None:
        costs = [(outcome.accuracy, outcome.costs["bytes"]) for outcome in outcomes]
        assert hypervolume(costs, function.reference) > 0


def test_hartmann_is_hartmann() -> None:
    """Near its published optimum, 3.32237 at these coordinates, rounded to the grid."""
    best = (0.2, 0.2, 0.5, 0.3, 0.3, 0.7)
    function = hartmann()
    outcome = function.evaluate({f"x{i}": x for i, x in enumerate(best)})
    assert 3.0 < outcome.accuracy < 3.33
    assert function.budgets[0].holds(outcome.costs["bytes"])


def test_races_are_recorded_and_not_run_again(tmp_path: Path) -> None:
    chosen = [f for f in functions() if f.name in ("hartmann", "stages-front")]
    arguments = (chosen, ("random", "evolution"), 2, 20, tmp_path, QUIET)
    records = races.races(*arguments)
    assert len(records) == 8
    for record in records:
        curve = record["curve"]
        assert len(curve) == len(record["seconds"]) == 20
        assert curve == sorted(curve)
    file = tmp_path / "hartmann-random-20-seed0.json"
    write_json(file, {**read_json(file), "curve": [9.0] * 20})
    assert races.races(*arguments)[0]["curve"] == [9.0] * 20


def test_the_summary_says_when_evolution_is_reached() -> None:
    def record(engine: str, *curve: float) -> races.Record:
        return {
            "function": "f", "engine": engine, "seed": 0,
            "curve": list(curve), "seconds": [0.5] * (races.INITIAL + 4),
        }  # fmt: skip

    rows = races.summary(
        [
            record("random", 0.1, 0.1, 0.2, 0.2),
            record("evolution", 0.1, 0.2, 0.2, 0.4),
            record("bo", 0.1, 0.4, 0.4, 0.6),
            record("bo", 0.3, 0.4, 0.6, 0.8),
        ]
    )
    cells = {row[1]: row[2:] for row in rows}
    assert cells["random"][3] == "> 4"
    assert cells["evolution"][3] == "4"
    assert cells["bo"][:4] == ["0.2000 ± 0.1000", "0.4000 ± 0.0000", "0.7000 ± 0.1000", "2"]


def test_a_table_gives_the_nearest_network_that_is_left() -> None:
    space = recorded._networks().space
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(20)]
    table = recorded.Table(
        [
            {"point": point, "tuned": 0.1, "costs": {"bytes": 1.0 + i}, "seconds": 1.0}
            for i, point in enumerate(points)
        ]
    )
    key = space.key(points[3])
    assert table.nearest(points[3], frozenset()) == points[3]
    second = table.nearest(points[3], frozenset({key}))
    distances = [
        float(np.square(space.encode(p) - space.encode(points[3])).sum())
        for p in points
        if space.key(p) != key
    ]
    chosen = float(np.square(space.encode(second) - space.encode(points[3])).sum())
    assert chosen == min(distances)
    assert table.evaluate(points[5]).costs == {"bytes": 6.0}
