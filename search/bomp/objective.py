"""`Objective`: what a study maximises, and which of two trials is the better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mpqdeploy.core import Budget, ConfigError, Metric
from mpqdeploy.search.bomp.front import pareto
from mpqdeploy.search.bomp.score import Score, excess
from mpqdeploy.search.bomp.trial import Outcome, Trial

Kind = Literal["budget", "score", "front"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """`budget`: accuracy, where the budgets hold. `score`: one number. `front`: accuracy and
    cost at once. Budgets are constraints in all three; only `budget` needs one.
    """

    kind: Kind = "budget"
    score: Score | None = None
    metric: Metric | None = None

    @property
    def directions(self) -> list[Direction]:
        return ["maximize", "minimize"] if self.kind == "front" else ["maximize"]

    def check(self, budgets: Sequence[Budget]) -> None:
        """Raise `ConfigError` for an objective that lacks what it needs."""
        if self.kind not in ("budget", "score", "front"):
            raise ConfigError(
                f"there is no objective {self.kind!r}.", hint="Known: budget, score, front."
            )
        if self.kind == "budget" and not budgets:
            raise ConfigError(
                "the objective 'budget' has no budget.",
                hint="Give a budget, or take the objective score or front.",
            )
        if self.kind == "score" and self.score is None:
            raise ConfigError(
                "the objective 'score' has no score.",
                hint="Give its metric, its two reference values and its weight.",
            )
        if self.kind == "front" and self.metric is None:
            raise ConfigError(
                "the objective 'front' has no metric.", hint="Say which cost the front is of."
            )

    def metrics(self, budgets: Sequence[Budget]) -> frozenset[str]:
        """The metrics that every outcome must have."""
        named = {self.score.metric} if self.kind == "score" and self.score else set()
        if self.kind == "front" and self.metric is not None:
            named.add(self.metric)
        return frozenset(named | {budget.metric for budget in budgets})

    def values(self, outcome: Outcome) -> tuple[float, ...]:
        """One number per direction."""
        if self.kind == "score" and self.score is not None:
            return (self.score.of(outcome.accuracy, outcome.costs[self.score.metric]),)
        if self.kind == "front" and self.metric is not None:
            return (outcome.accuracy, outcome.costs[self.metric])
        return (outcome.accuracy,)

    def order(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Complete trials, best first: those inside the budgets by value, then the others by how
        far they are outside (Deb's rules). Under `front`, value is the rank of the front that a
        trial is on, and of one front those that stand alone come first, as in NSGA-II.
        """
        inside = [trial for trial in trials if trial.feasible]
        outside = [t for t in trials if t.state == "complete" and not t.feasible]
        outside.sort(key=lambda trial: (excess(trial.violations), trial.number))
        if self.kind == "front":
            return (*self._by_front(inside), *outside)
        inside.sort(key=lambda trial: (-self._values(trial)[0], trial.number))
        return (*inside, *outside)

    def _values(self, trial: Trial) -> tuple[float, ...]:
        if trial.outcome is None:
            raise ValueError(f"trial {trial.number} has no outcome")
        return self.values(trial.outcome)

    def _by_front(self, trials: Sequence[Trial]) -> list[Trial]:
        rest, ordered = list(trials), list[Trial]()
        while rest:
            pairs = [(values[0], values[1]) for values in map(self._values, rest)]
            front = pareto(pairs)
            crowd = _crowding([pairs[position] for position in front])
            best = sorted(zip(crowd, front, strict=True), key=lambda item: (-item[0], item[1]))
            ordered += [rest[position] for _, position in best]
            rest = [trial for position, trial in enumerate(rest) if position not in set(front)]
        return ordered

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _crowding(front: Sequence[tuple[float, float]]) -> list[float]:
    """Distance between a pair's two neighbours on its front, as a share of the front's extent.

    `front` comes by rising cost, and so by rising accuracy.
    """
    if len(front) < 3:
        return [float("inf")] * len(front)
    spans = [(front[-1][axis] - front[0][axis]) or 1.0 for axis in (0, 1)]
    inner = [
        sum(abs(front[i + 1][axis] - front[i - 1][axis]) / abs(spans[axis]) for axis in (0, 1))
        for i in range(1, len(front) - 1)
    ]
    return [float("inf"), *inner, float("inf")]
