"""Who has a number, when two claim it, when one dies, and when answers are lost on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from mpqdeploy.search.bomp import storage as storage_module
from mpqdeploy.search.bomp.ledger import Ledger
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.storage import Patience
from tests.search.bomp.problems import LAYERED

POINTS = [point for _, point in zip(range(40), LAYERED.points(), strict=False)]


class Flaky:
    """A storage that is cut off at random, before it did what it was asked or after."""

    CUT = ("create_new_trial", "set_trial_state_values", "set_trial_user_attr", "get_all_trials")

    def __init__(self, storage: BaseStorage, seed: int) -> None:
        self._storage = storage
        self._random = random.Random(seed)
        self.cuts = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        return self._cut(method) if name in self.CUT else method

    def _cut(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            fate = self._random.random()
            if fate < 0.15:
                self.cuts += 1
                raise StorageInternalError("cut off before")
            answer = method(*arguments, **named)
            if fate > 0.85:
                self.cuts += 1
                raise StorageInternalError("cut off after")
            return answer

        return call


def memory() -> tuple[BaseStorage, int]:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="study")
    return storage, storage.get_study_id_from_name("study")


def ledger(storage: Any, study: int) -> Ledger:
    patience = Patience(where="memory", seconds=60.0, on_note=lambda note: None)
    return Ledger(storage, study, LAYERED, patience, lease=90.0)


def test_the_first_claim_of_a_number_has_it() -> None:
    storage, study = memory()
    one, two = ledger(storage, study), ledger(storage, study)
    row = one.claim(0, POINTS[0])
    assert row is not None
    assert two.claim(0, POINTS[1]) is None
    assert two.numbers()[0].point == POINTS[0]
    states = [trial.state for trial in storage.get_all_trials(study)]
    assert states == [TrialState.RUNNING, TrialState.FAIL]
    assert one.complete(row, {"accuracy": 1.0}, [1.0])
    assert two.claim(0, POINTS[1]) is None


def test_a_lost_number_is_free_and_keeps_its_point() -> None:
    storage, study = memory()
    one, two = ledger(storage, study), ledger(storage, study)
    row = one.claim(3, POINTS[5])
    assert row is not None
    two.lose(row)
    assert two.numbers() == {}
    assert two.left(3) == POINTS[5]
    assert two.left(4) is None
    again = two.claim(3, POINTS[5])
    assert again is not None
    # The first one was only slow: nothing that it says counts.
    assert not one.complete(row, {"accuracy": 0.0}, [0.0])
    assert not one.fail(row, "late")
    assert two.complete(again, {"accuracy": 1.0}, [1.0])
    assert two.numbers()[3].attributes["outcome"] == {"accuracy": 1.0}


def test_a_failed_number_is_not_free() -> None:
    storage, study = memory()
    one = ledger(storage, study)
    row = one.claim(0, POINTS[0])
    assert row is not None
    assert one.fail(row, "no memory")
    assert one.claim(0, POINTS[1]) is None
    assert one.numbers()[0].attributes["reason"] == "no memory"


def test_a_claim_whose_answer_was_lost_is_nobodys_and_is_found() -> None:
    storage, study = memory()
    one = ledger(storage, study)
    row = one.claim(0, POINTS[0])
    assert row is not None
    one.release_the_dead()
    assert 0 in one.numbers()
    one._held.clear()
    one.release_the_dead()
    assert one.numbers() == {}


@pytest.mark.parametrize("seed", range(10))
def test_no_number_is_lost_or_had_twice_over_a_connection_that_is_cut(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_PAUSE", 0.0)
    storage, study = memory()
    flaky = Flaky(storage, seed)
    workers = [ledger(flaky, study) for _ in range(3)]
    turn = random.Random(seed)
    recorded: list[int] = []
    for _ in range(400):
        worker = turn.choice(workers)
        worker.release_the_dead()
        free = [number for number in range(20) if number not in worker.numbers()]
        if not free:
            break
        row = worker.claim(free[0], POINTS[free[0]])
        if row is not None and worker.complete(row, {"by": row.row}, [0.5]):
            recorded.append(row.number)
    assert flaky.cuts > 20
    assert sorted(recorded) == list(range(20))
    complete = [t for t in storage.get_all_trials(study) if t.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["number"] for trial in complete) == list(range(20))


def test_beats_are_counted_for_what_is_held_only() -> None:
    storage, study = memory()
    one = ledger(storage, study)
    held, done = one.claim(0, POINTS[0]), one.claim(1, POINTS[1])
    assert held is not None
    assert done is not None
    one.complete(done, {}, [0.0])
    one.beat()
    one.beat()
    numbers: dict[int, Point] = {n: row.attributes for n, row in one.numbers().items()}
    assert numbers[0]["beat"] == 2
    assert "beat" not in numbers[1]
