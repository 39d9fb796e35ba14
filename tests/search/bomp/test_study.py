"""A study: N trials, none lost, none twice, whoever works on it and whatever goes wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mpqdeploy.core import Budget, BudgetError, ConfigError, ModelError
from mpqdeploy.search.bomp import holder
from mpqdeploy.search.bomp.parameters import Categorical, Ordinal, Point
from mpqdeploy.search.bomp.score import Score
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.study import Study, StudySettings
from mpqdeploy.search.bomp.trial import Outcome, Trial
from tests.search.bomp.problems import BYTES, LAYERED, formula

RANDOM = StudySettings(engine="random", trials=12, initial=4)


def opened(storage: Path | str, settings: StudySettings = RANDOM, **changes: object) -> Study:
    return Study.open(
        str(storage),
        "study",
        LAYERED,
        (BYTES,),
        settings,
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / "folder" / "study"
    return str(file) if request.param == "journal" else f"sqlite:///{file}.db"


def test_it_runs_to_its_end_and_is_read_again(storage: str) -> None:
    study, heard = opened(storage), list[Trial]()
    study.run(formula, heard.append)
    assert [trial.number for trial in heard] == list(range(12))
    again = opened(storage)
    assert again.finished()
    assert again.trials() == tuple(heard)
    for trial in heard:
        assert trial.outcome == formula(trial.point)
        assert trial.feasible == (trial.outcome.costs["bytes"] <= BYTES.limit)
    inside = [t for t in heard if t.feasible and t.outcome]
    best = max(inside, key=lambda t: t.outcome.accuracy if t.outcome else 0)
    assert again.best().outcome == best.outcome
    front = again.front("bytes")
    assert best.outcome in [trial.outcome for trial in front]
    assert all(trial.feasible for trial in front)

    def never(point: Point, number: int) -> Outcome:
        raise AssertionError(number)

    again.run(never)


def test_a_failing_trial_is_recorded_with_its_reason(tmp_path: Path) -> None:
    def evaluate(point: Point, number: int) -> Outcome:
        if number == 3:
            raise ModelError("layer conv2 has no channels.", hint="Widen it.")
        if number == 5:
            return replace(formula(point), accuracy=float("nan"))
        return formula(point)

    study = opened(tmp_path / "study")
    study.run(evaluate)
    trials = opened(tmp_path / "study").trials()
    failed = {trial.number: trial.reason for trial in trials if trial.state == "failed"}
    assert failed == {
        3: "layer conv2 has no channels. Widen it.",
        5: "the trial's accuracy is nan.",
    }
    assert len(trials) == 12
    assert not any(trials[number].feasible for number in failed)


@pytest.mark.parametrize("error", [ConfigError("no data"), RuntimeError("a defect")])
def test_other_errors_end_the_worker_and_free_the_trial(tmp_path: Path, error: Exception) -> None:
    def evaluate(point: Point, number: int) -> Outcome:
        if number == 4:
            raise error
        return formula(point)

    whole = opened(tmp_path / "whole")
    whole.run(formula)
    with pytest.raises(type(error)):
        opened(tmp_path / "study").run(evaluate)
    broken = opened(tmp_path / "study")
    assert len(broken.trials()) == 4
    broken.run(formula)
    assert broken.trials() == whole.trials()


def test_an_outcome_without_a_budgeted_cost_is_an_error(tmp_path: Path) -> None:
    study = opened(tmp_path / "study")
    with pytest.raises(ConfigError, match="trial 0 has no bytes"):
        study.run(lambda point, number: Outcome(accuracy=0.5, costs={"bops": 1.0}))
    assert study.trials() == ()


def test_a_study_made_for_something_else_is_refused_with_the_difference(tmp_path: Path) -> None:
    opened(tmp_path / "study").run(formula)

    def refused(space: Space, budget: float, settings: StudySettings) -> str:
        budgets = (Budget(metric="bytes", limit=budget),)
        with pytest.raises(ConfigError, match="made for something else") as raised:
            Study.open(str(tmp_path / "study"), "study", space, budgets, settings)
        return raised.value.message

    assert "seed: 0 there, 7 here" in refused(LAYERED, 900.0, replace(RANDOM, seed=7))
    assert "budgets.bytes: 900.0 there, 800.0 here" in refused(LAYERED, 800.0, RANDOM)
    score = Score(metric="bops", accuracy_reference=1.0, cost_reference=100.0)
    scored = refused(LAYERED, 900.0, replace(RANDOM, objective="score", score=score))
    assert "objective.kind: budget there, score here" in scored
    other = Space(*LAYERED.parameters[:2], Ordinal(name="bits1", values=(2, 4)))
    message = refused(other, 900.0, RANDOM)
    assert "space.parameters.bits1.values: [1, 2, 4, 8] there, [2, 4] here" in message
    assert "space.parameters.bits2.kind: ordinal there, absent here" in message
    kinds = Space(Categorical(name="kernel", values=("plain",)), *LAYERED.parameters[1:])
    assert "['plain', 'wide'] there, ['plain'] here" in refused(kinds, 900.0, RANDOM)


def test_more_trials_continue_a_study(tmp_path: Path) -> None:
    opened(tmp_path / "long", replace(RANDOM, trials=20)).run(formula)
    opened(tmp_path / "short").run(formula)
    longer = opened(tmp_path / "short", replace(RANDOM, trials=20))
    longer.run(formula)
    assert longer.trials() == opened(tmp_path / "long", replace(RANDOM, trials=20)).trials()


def test_a_budget_that_no_trial_met_ends_with_the_nearest(tmp_path: Path) -> None:
    tight = (Budget(metric="bytes", limit=50.0), Budget(metric="bops", limit=1e9))
    study = Study.open(str(tmp_path / "study"), "study", LAYERED, tight, RANDOM)
    study.run(formula)
    least = min(study.trials(), key=lambda t: t.outcome.costs["bytes"] if t.outcome else 0)
    assert least.outcome is not None
    over = 100 * (least.outcome.costs["bytes"] / 50 - 1)
    with pytest.raises(BudgetError, match=f"trial {least.number} is the nearest: bytes {over:.1f}"):
        study.best()
    assert study.nearest() == least
    assert study.front("bytes") == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "bayes"}, "no search engine 'bayes'"),
        ({"trials": 0}, "trials is 0"),
        ({"initial": 0}, "initial is 0"),
        ({"trials": 169}, "169 trials in a space of 168 networks"),
        ({"objective": "front"}, "no metric"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path / "study", replace(RANDOM, **change))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_many_workers_share_the_trials(storage: str) -> None:
    """Threads, each with the study open for itself: every claim is contested."""
    settings = replace(RANDOM, trials=8)
    evaluated: list[int] = []
    meet = threading.Barrier(3)

    def work() -> None:
        study = opened(storage, settings)
        meet.wait(60)

        def evaluate(point: Point, number: int) -> Outcome:
            evaluated.append(number)
            return formula(point)

        study.run(evaluate)

    opened(storage, settings)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(evaluated) == list(range(8))
    trials = opened(storage, settings).trials()
    assert [trial.state for trial in trials] == ["complete"] * 8


def test_asking_and_telling_out_of_order(tmp_path: Path) -> None:
    study = opened(tmp_path / "study", replace(RANDOM, trials=3))
    first, second, third = study.ask(), study.ask(), study.ask()
    assert first is not None
    assert second is not None
    assert third is not None
    assert [first.number, second.number, third.number] == [0, 1, 2]
    assert study.ask() is None
    assert [trial.state for trial in study.trials()] == ["running"] * 3
    study.tell(1, formula(second.point))
    study.fail(0, "no reason")
    study.release()
    again = study.ask()
    assert again is not None
    assert (again.number, again.point) == (2, third.point)
    study.tell(2, formula(again.point))
    assert study.finished()
    assert [trial.state for trial in study.trials()] == ["failed", "complete", "complete"]


def test_a_silent_worker_elsewhere_loses_its_trial_after_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(holder.time, "monotonic", lambda: clock[0])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(holder, "_place", lambda: "another machine")
        distant = opened(tmp_path / "study", replace(RANDOM, trials=2))
        held = distant.ask()
    assert held is not None
    here = opened(tmp_path / "study", replace(RANDOM, trials=2), lease=90.0)
    second = here.ask()
    assert second is not None
    assert second.number == 1
    here.tell(1, formula(second.point))
    for moment in (60.0, 89.0):
        clock[0] = moment
        assert here.ask() is None
    # It beats: the lease begins anew.
    distant._ledger.beat()
    clock[0] = 91.0
    assert here.ask() is None
    clock[0] = 182.0
    taken = here.ask()
    assert taken is not None
    assert (taken.number, taken.point) == (0, held.point)
    here.tell(0, formula(taken.point))
    # It was only asleep. What it brings is dropped.
    assert distant.tell(0, Outcome(accuracy=0.0, costs={"bytes": 1.0})) is None
    assert [trial.outcome for trial in here.trials()] == [
        formula(trial.point) for trial in here.trials()
    ]
