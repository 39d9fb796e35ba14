"""What every search engine must do, tried on each of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mpqdeploy.core import Budget, BudgetError, ConfigError, CostTable
from mpqdeploy.data import Loader
from mpqdeploy.nn.training import evaluate
from mpqdeploy.search.baselines import Random, Uniform
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.engine import Epoch, Event, Problem, Result, SearchEngine, load_network
from mpqdeploy.search.penalty import Penalty
from mpqdeploy.search.sensitivity import Sensitivity, SensitivitySettings
from mpqdeploy.search.settings import BpNasSettings
from tests.search.problems import tiny_problem

SHORT = BpNasSettings(epochs=3, refit_epochs=2, steps=3, batch_size=16, val_batches=1)
ENGINES: dict[str, Callable[[], SearchEngine]] = {
    "bpnas-joint": lambda: BpNas(SHORT),
    "bpnas-factorized": lambda: BpNas(replace(SHORT, mode="factorized")),
    # It starts uniform: a few short steps would leave every site undecided.
    "penalty": lambda: Penalty(replace(SHORT, epochs=2, steps=2, theta_lr=0.5), searches=2),
    "sensitivity": lambda: Sensitivity(SensitivitySettings(images=16, probes=2)),
    "sensitivity-fisher": lambda: Sensitivity(SensitivitySettings(curvature="fisher", images=4)),
    "uniform": Uniform,
    "random": lambda: Random(trials=3),
}


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> SearchEngine:
    return ENGINES[request.param]()


class KilledError(Exception):
    """Stands in for the signal: nothing after the event runs."""


def kill_at(count: int) -> Callable[[Event], None]:
    seen: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, Epoch):
            seen.append(event)
            if len(seen) == count:
                raise KilledError

    return listen


def same(one: Result, two: Result) -> bool:
    timeless = [[replace(epoch, seconds=0.0) for epoch in result.history] for result in (one, two)]
    return (
        one.policy == two.policy
        and one.probabilities == two.probabilities
        and timeless[0] == timeless[1]
    )


def test_the_policy_meets_every_budget_and_its_weights_load(
    engine: SearchEngine, tmp_path: Path
) -> None:
    problem = tiny_problem(bops=0.3, bytes=0.4, latency=0.5)
    result = engine.search(problem, tmp_path)
    assert set(result.policy.precisions) == set(problem.candidates)
    for site, precision in result.policy.precisions.items():
        assert precision in problem.candidates[site]
    for budget in problem.budgets:
        cost = problem.tables[budget.metric].of(result.policy)
        assert budget.holds(cost)
        assert result.costs[budget.metric] == cost
    net = load_network(problem.spec, result)
    assert 0 <= evaluate(net, Loader(problem.dataset, "val", batch_size=64)) <= 1


def test_the_same_seed_gives_the_same_search(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.4)
    assert same(engine.search(problem, tmp_path / "one"), engine.search(problem, tmp_path / "two"))


def test_killed_and_continued_is_uninterrupted(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.4)
    whole = engine.search(problem, tmp_path / "whole")
    with contextlib.suppress(KilledError):
        engine.search(problem, tmp_path / "killed", kill_at(2))
        assert len(whole.history) < 2  # there was no second epoch to be killed at
    assert same(whole, engine.search(problem, tmp_path / "killed"))


def test_a_finished_search_returns_at_once(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.4)
    first = engine.search(problem, tmp_path)

    def fail(event: Event) -> None:
        raise AssertionError(event)

    again = engine.search(problem, tmp_path, fail)
    assert again.to_json() == first.to_json()


def test_corrected_tables_continue_the_search(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(latency=0.6)
    engine.search(problem, tmp_path)
    tighter = corrected(problem)
    result = engine.search(tighter, tmp_path)
    assert tighter.inside(result.policy)
    assert engine.search(tighter, tmp_path).to_json() == result.to_json()


def test_a_killed_continuation_is_uninterrupted(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(latency=0.6)
    results = []
    for name in ("whole", "killed"):
        engine.search(problem, tmp_path / name)
        if name == "killed":
            with contextlib.suppress(KilledError):
                engine.search(corrected(problem), tmp_path / name, kill_at(1))
        results.append(engine.search(corrected(problem), tmp_path / name))
    assert same(*results)


def test_an_unreachable_budget_is_an_error_before_anything_runs(
    engine: SearchEngine, tmp_path: Path
) -> None:
    problem = tiny_problem(bops=-0.1)
    with pytest.raises(BudgetError, match="least reachable bops"):
        engine.search(problem, tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_problems_folder_is_refused(engine: SearchEngine, tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.5)
    engine.search(problem, tmp_path)
    with pytest.raises(ConfigError, match="seed"):
        engine.search(replace(problem, seed=1), tmp_path)


@pytest.mark.slow
def test_kill_9_and_continue(tmp_path: Path) -> None:
    """The real signal, in a process of its own."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.search.problems import tiny_problem\n"
        "from tests.search.test_contract import ENGINES\n"
        "from mpqdeploy.search.engine import Epoch\n"
        "def listen(event):\n"
        "    if isinstance(event, Epoch) and event.epoch == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "ENGINES['bpnas-joint']().search(tiny_problem(bops=0.4), Path(sys.argv[1]), listen)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "killed")],
        cwd=root,
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    problem = tiny_problem(bops=0.4)
    whole = ENGINES["bpnas-joint"]().search(problem, tmp_path / "whole")
    assert same(whole, ENGINES["bpnas-joint"]().search(problem, tmp_path / "killed"))


def corrected(problem: Problem) -> Problem:
    """What a refit gives: latency with an offset and a scale, and a budget that is tighter."""
    latency = problem.tables["latency"]
    least, greatest = latency.bounds(problem.candidates)
    table = CostTable(
        metric="latency", unit="us", entries=latency.entries, offset=0.2 * least, scale=1.1
    )
    limit = table.bounds(problem.candidates)[0] + 0.2 * (greatest - least)
    return replace(
        problem,
        tables={**problem.tables, "latency": table},
        budgets=(Budget(metric="latency", limit=limit),),
    )
