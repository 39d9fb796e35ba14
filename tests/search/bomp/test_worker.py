"""A worker's order of work: one trial's end behind the next one's beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mpqdeploy.core import ConfigError, ModelError
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.study import Study, StudySettings
from mpqdeploy.search.bomp.trial import Outcome
from mpqdeploy.search.bomp.worker import Ending
from tests.search.bomp.problems import BYTES, LAYERED, formula

SETTINGS = StudySettings(engine="random", trials=4, overlap=True)


class Order:
    """What was done, in order. Numbers in `failing` fail: at once, or when they are ended."""

    def __init__(self, at_once: int = -1, at_the_end: int = -1) -> None:
        self.lines: list[str] = []
        self._at_once = at_once
        self._at_the_end = at_the_end

    def __call__(self, point: Point, number: int) -> Ending:
        self.lines.append(f"begin {number}")
        if number == self._at_once:
            raise ModelError("diverged.")

        def ending() -> Outcome:
            self.lines.append(f"end {number}")
            if number == self._at_the_end:
                raise ModelError("no kernel.")
            return formula(point)

        return ending


def study(tmp_path: Path, settings: StudySettings = SETTINGS) -> Study:
    return Study.open(str(tmp_path / "journal"), "test", LAYERED, (BYTES,), settings)


def test_a_trial_ends_behind_the_next_one_s_beginning(tmp_path: Path) -> None:
    order = Order()
    study(tmp_path).run(order)
    assert order.lines == [
        "begin 0", "begin 1", "end 0", "begin 2", "end 1", "begin 3", "end 2", "end 3",
    ]  # fmt: skip


def test_without_overlap_one_ends_before_the_next_begins(tmp_path: Path) -> None:
    order = Order()
    study(tmp_path, replace(SETTINGS, overlap=False)).run(order)
    assert order.lines == [f"{what} {n}" for n in range(4) for what in ("begin", "end")]


def test_one_that_fails_takes_no_other_along(tmp_path: Path) -> None:
    order = Order(at_once=1, at_the_end=2)
    run = study(tmp_path)
    run.run(order)
    assert order.lines == ["begin 0", "begin 1", "end 0", "begin 2", "begin 3", "end 2", "end 3"]
    assert [t.state for t in run.trials()] == ["complete", "failed", "failed", "complete"]
    assert [t.reason for t in run.trials()][1:3] == ["diverged.", "no kernel."]


def test_a_proposal_knows_all_trials_but_the_one_before(tmp_path: Path) -> None:
    """Whether or not that one has ended: the study of a killed worker would differ otherwise."""
    run = study(tmp_path)
    for number in (0, 1):
        trial = run.ask()
        assert trial is not None
        run.tell(number, formula(trial.point))
    states = [trial.state for trial in run._history(2).trials]
    assert states == ["complete", "running"]


def test_what_ends_the_worker_frees_all_its_trials(tmp_path: Path) -> None:
    def evaluate(point: Point, number: int) -> Ending:
        if number == 1:
            raise ConfigError("not like this.")
        return lambda: formula(point)

    run = study(tmp_path)
    with pytest.raises(ConfigError):
        run.run(evaluate)
    assert run.trials() == ()
    assert run.free() == 0
