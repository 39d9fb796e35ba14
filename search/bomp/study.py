"""`Study`: N trials of a space, in a storage that survives kills and that workers share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from mpqdeploy.core import Budget, ConfigError, Metric
from mpqdeploy.search.bomp.engines import load_engine
from mpqdeploy.search.bomp.finding import best_of, front_of, nearest_of
from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.identity import claim_study
from mpqdeploy.search.bomp.ledger import Ledger, Row
from mpqdeploy.search.bomp.objective import Kind, Objective
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.score import Score, violations
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.storage import OnNote, open_storage
from mpqdeploy.search.bomp.trial import Outcome, State, Trial
from mpqdeploy.search.bomp.worker import Evaluate, OnTrial, Worker

__all__ = ["Outcome", "Study", "StudySettings", "Trial"]

_warn = logging.getLogger(__name__).warning

# Beats per lease: one or two may be lost on the way.
_BEATS = 4


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a study searches.

    `trials`: how many, failed ones too; it alone may change while a study goes on. `initial`:
    random trials before `bo` models anything; a small fixed number [o], because 3 per dimension
    [F] would be 180 of 100 trials in a space of 60 bit widths. `objective`, `score` and `metric`:
    see `Objective`; `metric` is of the objective `front`. `overlap`: a trial begins before the
    one before it has ended; see `Worker`.
    """

    engine: str = "bo"
    trials: int = 100
    initial: int = 10
    objective: Kind = "budget"
    seed: int = 0
    score: Score | None = None
    metric: Metric | None = None
    overlap: bool = False

    @property
    def wanted(self) -> Objective:
        return Objective(kind=self.objective, score=self.score, metric=self.metric)


class Study:
    """Made by `open`; several processes may have the same one open, and run it together."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        space: Space,
        budgets: tuple[Budget, ...],
        settings: StudySettings,
        lease: float,
    ) -> None:
        self.space = space
        self.budgets = budgets
        self.settings = settings
        self._ledger = ledger
        self._engine = load_engine(settings.engine)
        self._rows: dict[int, Row] = {}
        self._lease = lease

    @classmethod
    def open(
        cls,
        storage: str,
        name: str,
        space: Space,
        budgets: tuple[Budget, ...],
        settings: StudySettings,
        *,
        patience: float = 60.0,
        lease: float = 90.0,
        on_note: OnNote = _warn,
    ) -> Study:
        """The study `name` in `storage`, made where there is none.

        `storage`: the path of a journal file, or a database's URL. `patience`: seconds to wait
        for a database that does not answer, each time. `lease`: seconds after which a worker of
        another machine that shows no sign of life is taken for dead; one of this machine is known
        to be dead at once. Raises `ConfigError` where the study is of another space, budget, seed,
        engine or objective (and shows the difference), for settings that cannot be, and where
        the storage does not answer.
        """
        check_settings(space, budgets, settings)
        database, waiting = open_storage(storage, patience, on_note)
        study = waiting.call(
            lambda: optuna.create_study(
                storage=database,
                study_name=name,
                directions=settings.wanted.directions,
                load_if_exists=True,
            )
        )
        identity: dict[str, Any] = {
            "space": space.to_json(),
            "budgets": {budget.metric: budget.limit for budget in budgets},
            "objective": settings.wanted.to_json(),
            "engine": settings.engine,
            "initial": settings.initial,
            "seed": settings.seed,
            "overlap": settings.overlap,
        }
        waiting.call(lambda: claim_study(study, identity))
        number = database.get_study_id_from_name(name)
        ledger = Ledger(database, number, space, waiting, lease)
        return cls(ledger=ledger, space=space, budgets=budgets, settings=settings, lease=lease)

    def run(self, evaluate: Evaluate, on_trial: OnTrial | None = None) -> None:
        """Try until all trials of the study are finished, by whichever worker.

        `evaluate` gets the point and the trial's number. A `UserError` that it raises is the
        reason of a failed trial, and the study goes on; a `ConfigError`, or anything else, ends
        this worker, and its trials are free again. `on_trial` hears of the trials finished here.
        """
        with self._ledger.beating(self._lease / _BEATS):
            Worker(self, evaluate, on_trial).run()

    def free(self) -> int | None:
        """The lowest number that nobody has; that of a worker that died is free again."""
        self._ledger.release_the_dead()
        taken = self._ledger.numbers()
        return next((n for n in range(self.settings.trials) if n not in taken), None)

    def ask(self) -> Trial | None:
        """The next trial to evaluate, now this worker's; None where every number is taken.

        The lowest free number comes first; that of a worker that died keeps its point.
        """
        while (number := self.free()) is not None:
            point = self._ledger.left(number)
            if point is None:
                point = self.space.validate(self._engine.propose(self._history(number)))
            row = self._ledger.claim(number, point)
            if row is not None:
                self._rows[row.number] = row
                return self._trial(row)
        return None

    def tell(self, number: int, outcome: Outcome) -> Trial | None:
        """Record an outcome of a trial that was asked for here.

        None where this worker was taken for dead meanwhile: the trial is another's then, and the
        outcome is dropped. Raises `ConfigError` for an outcome without a cost that a budget or
        the objective is about.
        """
        missing = self.settings.wanted.metrics(self.budgets) - set(outcome.costs)
        if missing:
            raise ConfigError(
                f"trial {number} has no {', '.join(sorted(missing))}, which the study is about.",
                hint="Evaluate this cost too, or make the study without it.",
            )
        row = self._rows.pop(number)
        values = self.settings.wanted.values(outcome)
        if not self._ledger.complete(row, outcome.to_json(), values):
            return None
        return self._complete(number, row.point, outcome)

    def fail(self, number: int, reason: str) -> Trial | None:
        """Record why a trial that was asked for here has no outcome; None as in `tell`."""
        row = self._rows.pop(number)
        if not self._ledger.fail(row, reason):
            return None
        return Trial(number=number, state="failed", point=row.point, reason=reason)

    def release(self) -> None:
        """Give all trials that were asked for here back, for any worker to take."""
        while self._rows:
            _, row = self._rows.popitem()
            self._ledger.lose(row)

    def trials(self) -> tuple[Trial, ...]:
        """All trials by number, running ones too."""
        rows = self._ledger.numbers()
        return tuple(self._trial(rows[number]) for number in sorted(rows))

    def finished(self) -> bool:
        """Whether every trial is complete or failed."""
        done = [trial for trial in self.trials() if trial.state != "running"]
        return len(done) >= self.settings.trials

    def front(self, metric: str) -> tuple[Trial, ...]:
        """See `front_of`."""
        return front_of(self.trials(), metric)

    def best(self) -> Trial:
        """The best trial inside every budget. Raises `BudgetError` where there is none."""
        return best_of(self.trials(), self.settings.wanted)

    def nearest(self) -> Trial | None:
        """See `nearest_of`."""
        return nearest_of(self.trials())

    def _history(self, number: int) -> History:
        return History(
            space=self.space,
            objective=self.settings.wanted,
            budgets=self.budgets,
            trials=tuple(self._as_seen(trial, number) for trial in self.trials()),
            number=number,
            initial=self.settings.initial,
            seed=self.settings.seed,
        )

    def _as_seen(self, trial: Trial, number: int) -> Trial:
        """As the proposal of `number` knows a trial: with overlap, the one before is at work.

        Also where it was finished by then, because it was not in a study that nobody killed.
        """
        if self.settings.overlap and trial.number == number - 1:
            return Trial(number=trial.number, state="running", point=trial.point)
        return trial

    def _trial(self, row: Row) -> Trial:
        states: dict[optuna.trial.TrialState, State] = {
            optuna.trial.TrialState.COMPLETE: "complete",
            optuna.trial.TrialState.FAIL: "failed",
        }
        state = states.get(row.state, "running")
        if state == "complete":
            return self._complete(
                row.number, row.point, Outcome.from_json(row.attributes["outcome"])
            )
        return Trial(
            number=row.number,
            state=state,
            point=row.point,
            reason=row.attributes.get("reason") if state == "failed" else None,
        )

    def _complete(self, number: int, point: Point, outcome: Outcome) -> Trial:
        return Trial(
            number=number,
            state="complete",
            point=point,
            outcome=outcome,
            violations=violations(outcome.costs, self.budgets),
        )


def check_settings(space: Space, budgets: Sequence[Budget], settings: StudySettings) -> None:
    """What `Study.open` checks before it touches a storage. Raises `ConfigError`."""
    load_engine(settings.engine)
    settings.wanted.check(budgets)
    for name, least in (("trials", 1), ("initial", 1), ("seed", 0)):
        if getattr(settings, name) < least:
            raise ConfigError(
                f"a study's {name} is {getattr(settings, name)}.", hint=f"Give {least} or more."
            )
    if settings.trials > space.count():
        raise ConfigError(
            f"a study of {settings.trials} trials in a space of {space.count()} networks.",
            hint="Try fewer, or give a parameter more values.",
        )
