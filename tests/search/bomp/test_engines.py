"""What every engine must do, tried on each that the folder holds."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import Budget, ConfigError
from mpqdeploy.search.bomp.engines import engines, load_engine
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Ordinal, Point
from mpqdeploy.search.bomp.score import Score
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.study import StudySettings
from mpqdeploy.search.bomp.trial import Outcome, Trial
from tests.search.bomp.problems import BYTES, LAYERED, formula, history_of, simulate
from tests.search.bomp.workers import Job, start, work

# Enough for a population to be there and to change; a proposal of the model takes a second.
TRIALS = {"bo": 8, "evolution": 22}


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def trials_of(engine: str) -> int:
    return TRIALS.get(engine, 12)


def points(trials: list[Trial]) -> list[Point]:
    return [trial.point for trial in trials]


def test_every_proposal_is_valid_and_none_comes_twice(engine: str) -> None:
    trials = simulate(engine, trials_of(engine))
    assert all(LAYERED.validate(trial.point) == trial.point for trial in trials)
    assert len({LAYERED.key(trial.point) for trial in trials}) == len(trials)


def test_a_proposal_is_a_function_of_the_history(engine: str) -> None:
    trials = simulate(engine, trials_of(engine))
    history = history_of(trials)
    asked_before = load_engine(engine)
    asked_before.propose(history_of(trials[: len(trials) // 2], seed=5))
    assert asked_before.propose(history) == load_engine(engine).propose(history)


def test_a_seed_repeats_and_another_differs(engine: str) -> None:
    first, again, other = (
        points(simulate(engine, trials_of(engine), seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_what_failed_or_runs_is_not_proposed_again(engine: str) -> None:
    trials = simulate(engine, trials_of(engine))
    wanted = load_engine(engine).propose(history_of(trials))
    for state in ("failed", "running"):
        beside = Trial(number=len(trials), state=state, point=wanted)  # type: ignore[arg-type]
        history = replace(history_of([*trials, beside]), number=len(trials))
        proposed = load_engine(engine).propose(history)
        assert LAYERED.key(LAYERED.validate(proposed)) != LAYERED.key(wanted)


def test_a_budget_that_nothing_meets_is_no_obstacle(engine: str) -> None:
    never = (Budget(metric="bytes", limit=1.0),)
    trials = simulate(engine, trials_of(engine), budgets=never)
    assert not any(trial.feasible for trial in trials)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(
            kind="score",
            score=Score(metric="bops", accuracy_reference=0.8, cost_reference=1e5, weight=0.2),
        ),
        Objective(kind="front", metric="bytes"),
    ],
    ids=lambda objective: str(objective.kind),
)
@pytest.mark.parametrize("budgets", [(), (BYTES,)], ids=["free", "budget"])
def test_other_objectives(engine: str, objective: Objective, budgets: tuple[Budget, ...]) -> None:
    trials = simulate(engine, trials_of(engine), objective=objective, budgets=budgets)
    assert len({LAYERED.key(trial.point) for trial in trials}) == trials_of(engine)


def test_a_small_space_is_walked_through_whole(engine: str) -> None:
    space = Space(Ordinal(name="bits", values=(1, 2, 4)), Ordinal(name="one", values=(3,)))

    def evaluate(point: Point, number: int) -> Outcome:
        return Outcome(accuracy=0.1 * float(point["bits"]), costs={"bytes": float(point["bits"])})

    trials = simulate(engine, 3, evaluate=evaluate, space=space)
    assert sorted(int(trial.point["bits"]) for trial in trials) == [1, 2, 4]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no search engine 'evolutoin'.*Did you mean evolution"):
        load_engine("evolutoin")


@pytest.mark.parametrize(
    "engine",
    [pytest.param(name, marks=pytest.mark.slow) if name == "bo" else name for name in engines()],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_killed_at_five_moments_it_ends_as_undisturbed(
    engine: str, overlap: bool, tmp_path: Path
) -> None:
    """SIGKILL, wherever it hits: in a proposal, in an evaluation, between two writes."""
    settings = StudySettings(
        engine=engine, trials=trials_of(engine), initial=5, seed=3, overlap=overlap
    )
    whole = Job(
        storage=str(tmp_path / "whole"), log=tmp_path / "whole.log", settings=settings, seconds=0.05
    )
    work(whole)

    killed = replace(whole, storage=str(tmp_path / "killed"), log=tmp_path / "killed.log")
    moments = random.Random(engine)
    cut = 0
    # The last trials are left to one that lives, however late a signal comes on a busy machine.
    for done in sorted(moments.choices(range(settings.trials - 3), k=5)):
        process = start(killed)
        while killed.ended().total() < done and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        cut += process.exitcode == -9
    assert cut == 5
    work(killed)

    one, two = whole.open(), killed.open()
    assert one.trials() == two.trials()
    assert len(two.trials()) == settings.trials
    assert one.front("bytes") == two.front("bytes")


@pytest.mark.slow
def test_engines_that_learn_beat_random() -> None:
    """On 4^12 networks whose bits are worth and cost differently; the same first trials for all."""
    space = Space(*(Ordinal(name=f"b{i}", values=(1, 2, 4, 8)) for i in range(12)))
    rng = np.random.default_rng(7)
    worth, sizes = rng.uniform(0.2, 1, 12), rng.uniform(0.2, 1, 12)

    def evaluate(point: Point, number: int) -> Outcome:
        bits = np.array([float(point[f"b{i}"]) for i in range(12)])
        lost = float((worth * 2.0**-bits).sum() / worth.sum())
        return Outcome(accuracy=1 - lost, costs={"bytes": float((sizes * bits).sum())})

    budgets = (Budget(metric="bytes", limit=float(3 * sizes.sum())),)

    def best(engine: str) -> float:
        found = []
        for seed in range(3):
            trials = simulate(
                engine, 40, evaluate=evaluate, space=space, budgets=budgets, seed=seed
            )
            inside = [t.outcome.accuracy for t in trials if t.feasible and t.outcome]
            found.append(max(inside))
        return float(np.mean(found))

    reached = {engine: best(engine) for engine in ("random", "evolution", "bo")}
    assert reached["bo"] > reached["evolution"] > reached["random"]


def test_formula_has_feasible_and_infeasible_networks() -> None:
    inside = [BYTES.holds(formula(point).costs["bytes"]) for point in LAYERED.points()]
    assert any(inside)
    assert not all(inside)
