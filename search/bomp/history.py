"""`History`: all that an engine may look at when it proposes the next point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from mpqdeploy.core import Budget
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Trial

# How many changes of a point that was tried are made before the space is walked through.
_ATTEMPTS = 200


@dataclass(frozen=True, kw_only=True)
class History:
    """A space, what is wanted, and the trials so far by number.

    `number` is the trial to propose, `initial` how many trials are drawn at random first. An
    engine keeps nothing between its calls, and takes its randomness from `rng`: a study that was
    killed then goes on as if it had not been.
    """

    space: Space
    objective: Objective
    budgets: tuple[Budget, ...]
    trials: Sequence[Trial]
    number: int
    initial: int
    seed: int

    def rng(self, purpose: str = "", number: int | None = None) -> np.random.Generator:
        """Random numbers that depend on seed, trial number (this one's by default) and purpose."""
        which = self.number if number is None else number
        return np.random.default_rng([self.seed, which, crc32(purpose.encode())])

    @cached_property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.state == "complete")

    @cached_property
    def running(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.state == "running")

    @cached_property
    def tried(self) -> frozenset[str]:
        """Keys of the points of all trials, failed and running ones too."""
        return frozenset(self.space.key(trial.point) for trial in self.trials)

    def drawn(self) -> Point:
        """A random point that was not tried; the same one for every engine of this seed."""
        rng = self.rng("drawn")
        return self.untried(self.space.sample(rng), rng)

    def untried(self, point: Point, rng: np.random.Generator) -> Point:
        """`point`, or the outcome of a walk from it until one comes that was not tried.

        A network is deterministic enough that training it again teaches little, and a point that
        failed would fail again. Where the walk finds none, the first in order is taken; where
        every point was tried, `point` itself.
        """
        if self.space.key(point) not in self.tried:
            return point
        if self.space.count() > 1:
            walk = point
            for _ in range(_ATTEMPTS):
                walk = self.space.mutate(walk, rng)
                if self.space.key(walk) not in self.tried:
                    return walk
        for other in self.space.points():
            if self.space.key(other) not in self.tried:
                return other
        return point
