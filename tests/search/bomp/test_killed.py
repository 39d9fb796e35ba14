"""A worker that dies at any of its steps: before every write and look-up, and after it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from mpqdeploy.core import ModelError
from mpqdeploy.search.bomp.holder import Holder
from mpqdeploy.search.bomp.ledger import Ledger
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.storage import Patience
from mpqdeploy.search.bomp.study import Study, StudySettings
from mpqdeploy.search.bomp.trial import Trial
from mpqdeploy.search.bomp.worker import Ending
from tests.search.bomp.problems import BYTES, LAYERED, formula

SETTINGS = StudySettings(engine="evolution", trials=6, initial=2)
# Fails as soon as it is begun: the one before it is then still at work.
FAILING = 3


class KilledError(BaseException):
    """Stands in for the signal: whoever it hits says nothing to the storage any more."""


class Mortal:
    """A storage as seen by a worker that dies at call `last`, before or after it is done."""

    def __init__(self, storage: BaseStorage, last: int, *, after: bool) -> None:
        self._storage = storage
        self._last = last
        self._after = after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls > self._last or (self.calls == self._last and not self._after):
                raise KilledError
            answer = method(*arguments, **named)
            if self.calls == self._last:
                raise KilledError
            return answer

        return call


def worker(storage: Any, study: int, *, overlap: bool) -> Study:
    patience = Patience(where="memory", seconds=1.0, on_note=lambda note: None)
    ledger = Ledger(storage, study, LAYERED, patience, lease=90.0)
    settings = replace(SETTINGS, overlap=overlap)
    return Study(ledger=ledger, space=LAYERED, budgets=(BYTES,), settings=settings, lease=1e6)


def evaluated(point: Point, number: int) -> Ending:
    if number == FAILING:
        raise ModelError("it fails.")
    return partial(formula, point)


def run(storage: BaseStorage, study: int, last: int, *, after: bool, overlap: bool) -> int:
    """Work until the death; how many calls there were."""
    mortal = Mortal(storage, last, after=after)
    try:
        worker(mortal, study, overlap=overlap).run(evaluated)
    except KilledError:
        return mortal.calls
    return mortal.calls


def made() -> tuple[BaseStorage, int]:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="study")
    return storage, storage.get_study_id_from_name("study")


@pytest.mark.parametrize("overlap", [False, True])
def test_dead_at_every_step_it_ends_as_undisturbed(
    monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    # All workers are in this process; only the one that runs counts as alive.
    monkeypatch.setattr(Holder, "lives", lambda self: False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole, study = made()
    calls = run(whole, study, 10**6, after=True, overlap=overlap)
    expected = worker(whole, study, overlap=overlap).trials()
    assert [trial.number for trial in expected if trial.state == "failed"] == [FAILING]
    assert len(expected) == SETTINGS.trials
    for last in range(1, calls + 1):
        for after in (False, True):
            storage, study = made()
            run(storage, study, last, after=after, overlap=overlap)
            # Twice: the next one dies as far into what is left.
            run(storage, study, max(1, last // 2), after=after, overlap=overlap)
            heard: list[Trial] = []
            worker(storage, study, overlap=overlap).run(evaluated, heard.append)
            assert worker(storage, study, overlap=overlap).trials() == expected
            numbers = [trial.number for trial in heard]
            assert len(numbers) == len(set(numbers))
