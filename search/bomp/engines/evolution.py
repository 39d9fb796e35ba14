"""Evolution as in JASQ: a population of 16, of which the best of a few is mutated."""

from __future__ import annotations

from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.trial import Trial


class Engine:
    """Tournament selection with a population that is worked out anew from the trials [o].

    A population of 16 whose best is mutated is JASQ's [r]; the tournament's size is ours. The
    population starts with the first trials, which are random. Every later trial enters, and the
    worst of a tournament leaves. Replaying that, instead of keeping it, makes a proposal a
    function of the trials alone.
    """

    population = 16
    tournament = 4

    def propose(self, history: History) -> Point:
        if len(history.complete) < self.population:
            return history.drawn()
        alive = self._alive(history)
        rng = history.rng("parent")
        chosen = rng.choice(len(alive), size=self.tournament, replace=False)
        parent = history.objective.order([alive[int(position)] for position in chosen])[0]
        return history.untried(history.space.mutate(parent.point, rng), rng)

    def _alive(self, history: History) -> list[Trial]:
        alive = list(history.complete[: self.population])
        for trial in history.complete[self.population :]:
            alive.append(trial)
            rng = history.rng("leaves", trial.number)
            chosen = rng.choice(len(alive), size=self.tournament, replace=False)
            alive.remove(history.objective.order([alive[int(position)] for position in chosen])[-1])
        return alive
