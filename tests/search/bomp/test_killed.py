"""A worker that dies at any of its steps: before every write and look-up, and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from mpqdeploy.search.bomp.holder import Holder
from mpqdeploy.search.bomp.ledger import Ledger
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.storage import Patience
from mpqdeploy.search.bomp.study import Study, StudySettings
from mpqdeploy.search.bomp.trial import Outcome, Trial
from tests.search.bomp.problems import BYTES, LAYERED, formula

SETTINGS = StudySettings(engine="evolution", trials=6, initial=2)


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


def worker(storage: Any, study: int) -> Study:
    patience = Patience(where="memory", seconds=1.0, on_note=lambda note: None)
    ledger = Ledger(storage, study, LAYERED, patience, lease=90.0)
    return Study(ledger=ledger, space=LAYERED, budgets=(BYTES,), settings=SETTINGS, lease=1e6)


def run(storage: BaseStorage, study: int, last: int, *, after: bool) -> int:
    """Work until the death; how many calls there were."""
    mortal = Mortal(storage, last, after=after)
    try:
        worker(mortal, study).run(formula)
    except KilledError:
        return mortal.calls
    return mortal.calls


def made() -> tuple[BaseStorage, int]:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="study")
    return storage, storage.get_study_id_from_name("study")


def test_dead_at_every_step_it_ends_as_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    # All workers are in this process; only the one that runs counts as alive.
    monkeypatch.setattr(Holder, "lives", lambda self: False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole, study = made()
    calls = run(whole, study, 10**6, after=True)
    expected = worker(whole, study).trials()
    assert len(expected) == SETTINGS.trials
    for last in range(1, calls + 1):
        for after in (False, True):
            storage, study = made()
            run(storage, study, last, after=after)
            # Twice: the next one dies as far into what is left.
            run(storage, study, max(1, last // 2), after=after)
            evaluated = _continued(storage, study)
            assert worker(storage, study).trials() == expected
            assert len(evaluated) == len(set(evaluated))


def _continued(storage: BaseStorage, study: int) -> list[int]:
    """Work to the end; the numbers that were evaluated."""
    evaluated: list[int] = []

    def evaluate(point: Point, number: int) -> Outcome:
        evaluated.append(number)
        return formula(point)

    heard: list[Trial] = []
    listen: Callable[[Trial], None] = heard.append
    worker(storage, study).run(evaluate, listen)
    assert [trial.number for trial in heard] == evaluated
    return evaluated
