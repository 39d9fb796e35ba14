"""What trials amount to: the front, the best one, and how far the nearest is where none is inside.

Of trials, and not of a study: what was written down when a study ended is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.core import BudgetError
from mpqdeploy.search.bomp.front import pareto
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.score import excess
from mpqdeploy.search.bomp.trial import Trial


def front_of(trials: Sequence[Trial], metric: str) -> tuple[Trial, ...]:
    """The trials inside every budget whose accuracy and cost no other one beats, by cost."""
    inside = [(t, t.outcome) for t in trials if t.feasible and t.outcome is not None]
    pairs = [(outcome.accuracy, outcome.costs[metric]) for _, outcome in inside]
    return tuple(inside[position][0] for position in pareto(pairs))


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial:
    """The best trial inside every budget.

    Raises `BudgetError` where there is none: it names the nearest one and how far it is.
    """
    order = objective.order(trials)
    if not order:
        reasons = (f"; trial {t.number}: {t.reason}" for t in trials if t.reason)
        raise BudgetError(f"none of {len(trials)} trials was completed{next(reasons, '.')}")
    if order[0].feasible:
        return order[0]
    raise BudgetError(
        f"none of {len(order)} networks meets the budget; "
        f"trial {order[0].number} is the nearest: {overrun(order[0])}.",
        hint="Raise the budget, or try more networks.",
    )


def nearest_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial that is the least outside the budgets, None where none completed."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return min(complete, key=lambda t: (excess(t.violations), t.number), default=None)


def overrun(trial: Trial) -> str:
    """Which budgets a complete trial is over, and by how much; empty where it is inside all."""
    return ", ".join(
        f"{metric} {100 * share:.1f} % over"
        for metric, share in trial.violations.items()
        if share > 0
    )
