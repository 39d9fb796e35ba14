"""`Worker`: asks for a trial, evaluates it, tells what came of it, until the study is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpqdeploy.core import ConfigError, UserError
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.trial import Outcome, Trial

if TYPE_CHECKING:
    from mpqdeploy.search.bomp.study import Study

Ending = Callable[[], Outcome]
"""The rest of an evaluation: what may wait until the next trial has had its turn."""
Evaluate = Callable[[Point, int], Outcome | Ending]
OnTrial = Callable[[Trial], None]

# Seconds between two looks at the trials of other workers.
_POLL = 1.0


@dataclass(frozen=True, kw_only=True)
class _Begun:
    trial: Trial
    ending: Ending


class Worker:
    """One process's part of a study.

    Where the study's trials `overlap`, an evaluation that returns its ending is ended behind the
    next trial's beginning:

        begin 0, begin 1, end 0, begin 2, end 1, ...

    A trial is begun early only if it has the next number, so that whatever was killed in between,
    the proposal of a number comes when all but the one before it are known.
    """

    def __init__(self, study: Study, evaluate: Evaluate, on_trial: OnTrial | None) -> None:
        self._study = study
        self._evaluate = evaluate
        self._on_trial = on_trial

    def run(self) -> None:
        """Until all trials of the study are finished, by whichever worker."""
        begun: _Begun | None = None
        while True:
            number = self._study.free()
            if begun is not None and number != begun.trial.number + 1:
                self._end(begun)
                begun = None
            elif number is not None:
                following = self._begin()
                if begun is not None:
                    self._end(begun)
                begun = following
            elif self._study.finished():
                return
            else:
                time.sleep(_POLL)

    def _begin(self) -> _Begun | None:
        """The next trial, where it has an ending to wait for."""
        trial = self._study.ask()
        if trial is None:
            return None
        with self._recording(trial):
            answer = self._evaluate(trial.point, trial.number)
            if isinstance(answer, Outcome):
                self._tell(trial, answer)
            elif self._study.settings.overlap:
                return _Begun(trial=trial, ending=answer)
            else:
                self._tell(trial, answer())
        return None

    def _end(self, begun: _Begun) -> None:
        with self._recording(begun.trial):
            self._tell(begun.trial, begun.ending())

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        outcome.check()
        self._heard(self._study.tell(trial.number, outcome))

    @contextmanager
    def _recording(self, trial: Trial) -> Iterator[None]:
        """A user's error fails the trial; any other ends the worker, and frees its trials."""
        try:
            yield
        except ConfigError:
            self._study.release()
            raise
        except UserError as error:
            self._heard(self._study.fail(trial.number, str(error)))
        except BaseException:
            self._study.release()
            raise

    def _heard(self, told: Trial | None) -> None:
        if told is not None and self._on_trial is not None:
            self._on_trial(told)
