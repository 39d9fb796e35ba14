"""Engines to compare with: one precision for all sites, and the best of random policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpqdeploy.core import BudgetError, Policy, Precision
from mpqdeploy.search.engine import OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.repair import repair
from mpqdeploy.search.trials import best_of


class Uniform:
    """The best-scored uniform policy inside the budgets; pinned sites keep their own precision.

    A precision that some site does not offer is no uniform policy. Where no uniform policy is
    inside, `BudgetError`: a mixed one might be, which is the point of a search.
    """

    name = "uniform"

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        return best_of(self, problem, folder, on_event, {})

    def policies(self, problem: Problem, place: SearchFolder, on_event: OnEvent) -> list[Policy]:
        free = [choices for choices in problem.candidates.values() if len(choices) > 1]
        shared = [p for p in (free[0] if free else ()) if all(p in choices for choices in free)]
        made = [_uniform(problem, precision) for precision in shared] or [_uniform(problem, None)]
        inside = [policy for policy in made if problem.inside(policy)]
        if not inside:
            raise BudgetError(
                "no uniform precision meets the budgets: "
                + "; ".join(_costs(problem, policy) for policy in made)
                + ".",
                hint="Search for a mixed one, or raise the budget.",
            )
        return inside


class Random:
    """The best-scored of `trials` policies drawn at random and repaired into the budgets.

    Drawn uniformly per site; one that is over is brought inside by greedy repair with random
    scores, so that tight budgets, which almost no draw meets, get their trials too [o].
    """

    name = "random"

    def __init__(self, trials: int = 16) -> None:
        self.trials = trials

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        return best_of(self, problem, folder, on_event, {"trials": self.trials})

    def policies(self, problem: Problem, place: SearchFolder, on_event: OnEvent) -> list[Policy]:
        rng = np.random.default_rng(problem.seed)
        return [_draw(problem, rng) for _ in range(self.trials)]


def _uniform(problem: Problem, precision: Precision | None) -> Policy:
    return Policy(
        precisions={
            site: choices[0] if len(choices) == 1 or precision is None else precision
            for site, choices in problem.candidates.items()
        }
    )


def _draw(problem: Problem, rng: np.random.Generator) -> Policy:
    drawn = {s: c[int(rng.integers(len(c)))] for s, c in problem.candidates.items()}
    scores = {s: {p: float(rng.random()) for p in c} for s, c in problem.candidates.items()}
    return repair(
        Policy(precisions=drawn), scores, problem.tables, problem.budgets, problem.candidates
    ).policy


def _costs(problem: Problem, policy: Policy) -> str:
    precision = next(
        (str(policy[s]) for s, c in problem.candidates.items() if len(c) > 1), "the pinned sites"
    )
    costs = (f"{problem.tables[b.metric].of(policy):.6g}" for b in problem.budgets)
    limits = (f"{b.metric} limit {b.limit:.6g}" for b in problem.budgets)
    return f"{precision} costs {', '.join(costs)} ({', '.join(limits)})"
