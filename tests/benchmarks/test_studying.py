"""What the benchmark of BOMP-NAS races on, what it counts, and that a killed one continues."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from studying import cifar, qaft, recorded, standings
from studying.finals import finals
from studying.functions import Function, functions, hartmann
from studying.races import INITIAL, Race, Record, race, races
from studying.trained import Trained

from mpqdeploy.core import Precision
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import DataSpec
from mpqdeploy.nn.training import Recipe, TrainingError
from mpqdeploy.search.bomp.front import hypervolume
from mpqdeploy.search.bomp.networks import Choices
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.training import Fidelity
from mpqdeploy.search.bomp.trial import Outcome
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
    run = Race(20, tmp_path, QUIET)
    records = races(chosen, ("random", "evolution"), range(2), run)
    assert len(records) == 8
    for record in records:
        curve = record["curve"]
        assert len(curve) == len(record["seconds"]) == len(record["trials"]) == 20
        assert curve == sorted(curve)
    file = tmp_path / "hartmann-random-20-seed0.json"
    write_json(file, {**read_json(file), "curve": [9.0] * 20})
    assert races(chosen, ("random",), [0], run)[0]["curve"] == [9.0] * 20


def test_a_training_that_diverges_is_a_failed_trial() -> None:
    def evaluate(point: Point) -> Outcome:
        if point["x0"] == 0.5:
            raise TrainingError("training diverged")
        return hartmann().evaluate(point)

    found = race(replace(hartmann(), evaluate=evaluate), "random", 0, 40)
    assert 0 < len(found["trials"]) < len(found["curve"]) == 40
    assert all(trial["point"]["x0"] != 0.5 for trial in found["trials"])


def record_of(engine: str, seed: int, *curve: float) -> Record:
    seconds = [0.5] * (INITIAL + 4)
    return {
        "function": "f", "engine": engine, "seed": seed, "curve": list(curve), "seconds": seconds,
    }  # fmt: skip


def test_the_standings_say_when_evolution_is_reached_and_how_much_sooner() -> None:
    rows = standings.standings(
        [
            record_of("random", 0, 0.1, 0.1, 0.2, 0.2),
            record_of("random", 1, 0.1, 0.1, 0.2, 0.2),
            record_of("evolution", 0, 0.1, 0.2, 0.2, 0.4),
            record_of("evolution", 1, 0.1, 0.2, 0.2, 0.4),
            record_of("bo", 0, 0.1, 0.4, 0.4, 0.6),
            record_of("bo", 1, 0.3, 0.4, 0.6, 0.8),
        ]
    )
    cells = {row[1]: row[2:] for row in rows}
    assert cells["random"][3:5] == ["> 4", "below 1 [0.80, 0.80]"]
    assert cells["evolution"][3:5] == ["4", "1.00 [1.00, 1.00]"]
    assert cells["bo"][:5] == [
        "0.2000 ± 0.1000", "0.4000 ± 0.0000", "0.7000 ± 0.1000", "2", "2.00 [2.00, 2.00]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Networks of a few images and one epoch."""
    one = Recipe(epochs=1, batch_size=32, lr=0.05)
    return Trained(
        model="mobile_digits",
        data=DataSpec(name="digits", limit={"train": 64, "search": 32, "val": 32, "test": 32}),
        choices=Choices(kernels=(3,), expansions=(1,), repeats=(0, 1)),
        fidelity=Fidelity(training=one, tuning=one),
        folder=tmp_path_factory.mktemp("trained"),
        ui=QUIET,
    )


def test_a_network_is_trained_once_and_its_float_weights_serve_other_bits(
    trained: Trained,
) -> None:
    wide, narrow = (trained.uniform(Precision.parse(bits)) for bits in ("8/8", "2/2"))
    first = trained.row(wide, trained.fidelity, "val")
    (scratch,) = trained.folder.glob("training-*")
    weights = (scratch / "float.pt").stat().st_mtime_ns
    second = trained.row(narrow, trained.fidelity, "val")
    assert (scratch / "float.pt").stat().st_mtime_ns == weights
    assert first["float32"] == second["float32"]
    assert first["costs"]["bytes"] > second["costs"]["bytes"]
    shutil.rmtree(scratch)
    assert trained.row(wide, trained.fidelity, "val") == first
    assert not list(trained.folder.glob("training-*"))


def test_a_table_gives_the_nearest_network_that_is_left(trained: Trained) -> None:
    space = trained.networks.space
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(20)]
    rows = [{"tuned": 0.1, "costs": {"bytes": 1.0 + i}, "seconds": 1.0} for i in range(20)]
    table = recorded.Table(space, points, rows)
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


def test_a_front_is_trained_in_full_from_end_to_end(trained: Trained) -> None:
    points = [trained.drawn(0, number) for number in range(4)]
    costs = [trained.networks.network(point).counted for point in points]
    trials = [
        {"point": point, "accuracy": cost["bytes"], "costs": cost}
        for point, cost in zip(points, costs, strict=True)
    ]
    sizes = sorted(cost["bytes"] for cost in costs)
    # Larger is better here, so that all of them are on the front.
    found = finals(trained, {"trials": trials}, trained.fidelity, 2, sizes[-1] + 1)
    assert [one["bytes"] for one in found] == [sizes[0], sizes[-1]]
    assert {"in_loop", "float32", "quantized", "tuned", "bops"} <= found[0].keys()
    assert len(finals(trained, {"trials": trials}, trained.fidelity, 9, sizes[-1])) == 3


def test_arms_are_compared_at_equal_size_and_at_equal_accuracy() -> None:
    def front(*pairs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"bytes": size, "tuned": accuracy} for size, accuracy in pairs]

    records = [
        {"arm": "QAFT", "seed": 0, "front": front((4000, 0.85), (8000, 0.92))},
        {"arm": "PTQ", "seed": 0, "front": front((4000, 0.75), (16000, 0.92))},
        {"arm": "QAFT", "seed": 1, "front": front((5000, 0.85))},
        {"arm": "PTQ", "seed": 1, "front": front((4000, 0.85))},
    ]
    rows = {row[0]: row[1:] for row in qaft.summary(records)}
    # Seed 1 has nothing that small in one arm, and nothing that accurate in either.
    assert rows["accuracy at 4 KiB"] == ["85.0 %", "75.0 %", "+10.0 ± 0.0 points", "1"]
    assert rows["size at 90 %"] == [
        "7.81 KiB", "15.63 KiB", "0.50 [0.50, 0.50] of its bytes", "1",
    ]  # fmt: skip
    assert rows["size at 95 %"] == ["", "", "", "0"]


def test_the_sizes_are_what_they_are_called() -> None:
    paper = cifar.SIZES["paper"]
    assert (paper.trials, paper.epochs, paper.full_epochs) == (100, (20, 1), (200, 5))
    assert cifar.data_of("cifar10", Path("there"), paper).limit == {}
    small = cifar.data_of("cifar10", Path("there"), cifar.SMALL)
    assert small.limit["train"] == cifar.SMALL.images
