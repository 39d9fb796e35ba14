"""`Ledger`: which trial numbers of a study are taken, by whom, and what came of them.

Optuna's study is the table; a trial of ours is a *number* in it, 0 to N - 1. Optuna's own numbers
do not do, because a trial whose worker was killed stays there and its retry is another row. Every
step below is one atomic write, so a process may die between any two of them:

- *claim*: a new row, running, with number, point and holder. Rows have a total order. The first
  row of a number that is not lost has it; who finds an earlier one than his own gives his up.
- *finish*: the outcome is written, then the state. A row can be finished only once, so a worker
  that was taken for dead and comes back is told so, and what it brings is dropped.
- *lose*: a row fails without a reason. The number is then free again, with the point it had.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from mpqdeploy.search.bomp.holder import Holder, Watch, holder_from_json
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.storage import TRANSIENT, Patience


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the study: trial `number` as one worker claimed it. `lost`: its worker died."""

    row: int
    number: int
    state: TrialState
    point: Point
    attributes: Mapping[str, Any]

    @property
    def lost(self) -> bool:
        return self.state == TrialState.FAIL and "reason" not in self.attributes

    @property
    def token(self) -> str:
        return str(self.attributes["token"])


class Ledger:
    """One worker's view of the numbers of a study."""

    def __init__(
        self, storage: BaseStorage, study: int, space: Space, patience: Patience, lease: float
    ) -> None:
        self._storage = storage
        self._study = study
        self._space = space
        self._patience = patience
        self._me = Holder.here()
        self._watch = Watch(lease)
        # By token.
        self._held: dict[str, Row] = {}
        self._beats = 0

    def rows(self) -> tuple[Row, ...]:
        """All rows in order, lost ones too."""
        frozen = self._patience.call(
            lambda: self._storage.get_all_trials(self._study, deepcopy=False)
        )
        return tuple(self._row(trial) for trial in frozen if "number" in trial.user_attrs)

    def _row(self, trial: FrozenTrial) -> Row:
        attributes = trial.user_attrs
        return Row(
            row=trial._trial_id,
            number=int(attributes["number"]),
            state=trial.state,
            point=self._space.validate(attributes["point"]),
            attributes=attributes,
        )

    def numbers(self) -> dict[int, Row]:
        """The row that has each number."""
        having: dict[int, Row] = {}
        for row in self.rows():
            if not row.lost:
                having.setdefault(row.number, row)
        return having

    def release_the_dead(self) -> None:
        """Lose the rows of workers that were killed."""
        for row in self.rows():
            if row.state == TrialState.RUNNING and self._dead(row):
                self.lose(row)

    def _dead(self, row: Row) -> bool:
        holder = holder_from_json(row.attributes["holder"])
        if holder.worker == self._me.worker:
            # A claim whose answer was lost on the way: nobody works on it.
            return row.token not in self._held
        lives = holder.lives()
        if lives is None:
            return self._watch.silent(row.row, int(row.attributes.get("beat", 0)))
        return not lives

    def left(self, number: int) -> Point | None:
        """The point that a lost trial of this number had, so that its retry is the same network."""
        for row in self.rows():
            if row.lost and row.number == number:
                return row.point
        return None

    def claim(self, number: int, point: Point) -> Row | None:
        """Take `number`; None where another worker was first."""
        token = uuid.uuid4().hex
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(point),
            distributions={
                name: CategoricalDistribution(self._space[name].values) for name in point
            },
            user_attrs={
                "number": number,
                "point": dict(point),
                "token": token,
                "holder": self._me.to_json(),
            },
        )
        self._patience.call(lambda: self._storage.create_new_trial(self._study, template))
        having = self.numbers().get(number)
        if having is not None and having.token == token:
            self._held[token] = having
            return having
        self._give_up(token)
        return None

    def _give_up(self, token: str) -> None:
        for row in self.rows():
            if row.token == token and row.state == TrialState.RUNNING:
                self.lose(row)

    def lose(self, row: Row) -> None:
        """Free the row's number, unless it was finished meanwhile."""
        self._finish(row, TrialState.FAIL)

    def fail(self, row: Row, reason: str) -> bool:
        """Record why nothing came out; False where the row was taken for dead before."""
        return self._finish(row, TrialState.FAIL, {"reason": reason})

    def complete(self, row: Row, outcome: Mapping[str, Any], values: Sequence[float]) -> bool:
        """Record what came out; False where the row was taken for dead before."""
        return self._finish(row, TrialState.COMPLETE, {"outcome": dict(outcome)}, values)

    def _finish(
        self,
        row: Row,
        state: TrialState,
        notes: Mapping[str, Any] = MappingProxyType({}),
        values: Sequence[float] | None = None,
    ) -> bool:
        def write() -> None:
            for key, value in notes.items():
                self._storage.set_trial_user_attr(row.row, key, value)
            self._storage.set_trial_state_values(row.row, state, values)

        self._held.pop(row.token, None)
        try:
            self._patience.call(write)
        except UpdateFinishedTrialError:
            # The first try may have got through, and only its answer have been lost.
            there = self._patience.call(lambda: self._storage.get_trial(row.row))
            return there.state == state and notes.keys() <= there.user_attrs.keys()
        return True

    def beat(self) -> None:
        """Tell the others that this worker lives. What is not told now is told the next time."""
        self._beats += 1
        for row in tuple(self._held.values()):
            with suppress(UpdateFinishedTrialError, *TRANSIENT):
                self._storage.set_trial_user_attr(row.row, "beat", self._beats)

    @contextmanager
    def beating(self, seconds: float) -> Iterator[None]:
        """Beat every `seconds` while the block runs."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(seconds):
                self.beat()

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
