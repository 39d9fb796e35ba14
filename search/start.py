"""Where the logits start: tilted towards cheap candidates until E[C] lies inside every budget [o].

A uniform softmax usually starts outside the barrier's domain. The tilt is the Gibbs law

    p_ij ~ exp(-t * sum_k c_kij),   c_kij the site's cost in metric k, scaled to [0, 1] per site,

with the least t >= 0 that puts every E[C_k] at or below its target. Scaling per site, not over the
network, leaves a small site as undecided as a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import assign

Logits = dict[str, NDArray[np.float64]]

TARGET = 0.9
"""Start at no more than this share of each budget [o]."""

STEEPEST = 30.0
"""Beyond this tilt a softmax is one-hot in float32, and no gradient comes back from it."""


def starting_logits(
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
    *,
    target: float = TARGET,
) -> Logits:
    """Logits per site, `[J_i]`, mean 0, whose softmax meets every target.

    The target is `target * budget`, or half-way between the cheapest network and the budget where
    that is more: a budget just above the cheapest network leaves less than a tenth. Where several
    metrics pull apart and no common tilt meets them, the tilt goes towards the network that lies
    deepest inside all budgets.
    """
    goals = {b.metric: _goal(tables[b.metric], b, candidates, target) for b in budgets}
    chosen = {metric: tables[metric] for metric in goals}

    def reached(tilt: float, slopes: Logits) -> bool:
        chances = {site: _softmax(-tilt * slopes[site]) for site in candidates}
        return all(chosen[m].expected(chances, candidates) <= goals[m] for m in goals)

    by_cost = _slopes(list(chosen.values()), candidates)
    slopes = (
        by_cost if reached(STEEPEST, by_cost) else _towards_interior(tables, budgets, candidates)
    )
    tilt = _least(lambda t: reached(t, slopes))
    return {site: -tilt * (slopes[site] - slopes[site].mean()) for site in candidates}


def _goal(table: CostTable, budget: Budget, candidates: Candidates, target: float) -> float:
    least, _ = table.bounds(candidates)
    return max(target * budget.limit, (least + budget.limit) / 2)


def _slopes(tables: Sequence[CostTable], candidates: Candidates) -> Logits:
    slopes: Logits = {}
    for site, choices in candidates.items():
        total = np.zeros(len(choices))
        for table in tables:
            costs = table.vector(site, choices)
            span = costs.max() - costs.min()
            total += (costs - costs.min()) / span if span > 0 else 0.0
        slopes[site] = total
    return slopes


def _towards_interior(
    tables: Mapping[str, CostTable], budgets: Sequence[Budget], candidates: Candidates
) -> Logits:
    """Slope 0 at the deepest network's candidates and 1 elsewhere.

    Deepest: all budgets shrunk by the same share of their room above the cheapest network, as far
    as a network is left; found by bisection over integer programs.
    """
    flat = {site: dict.fromkeys(choices, 0.0) for site, choices in candidates.items()}
    least = {b.metric: tables[b.metric].bounds(candidates)[0] for b in budgets}
    low, high = 0.0, 1.0
    deepest = assign(flat, tables, budgets, candidates)
    for _ in range(12):
        middle = (low + high) / 2
        shrunk = [
            Budget(metric=b.metric, limit=b.limit - middle * (b.limit - least[b.metric]))
            for b in budgets
        ]
        found = assign(flat, tables, shrunk, candidates)
        if found is None:
            high = middle
        else:
            low, deepest = middle, found
    if deepest is None:
        return _slopes([tables[b.metric] for b in budgets], candidates)
    return {
        site: np.array([float(choice != deepest[site]) for choice in choices])
        for site, choices in candidates.items()
    }


def _least(reached: Callable[[float], bool]) -> float:
    """Bisection; the steepest tilt where none reaches the targets."""
    if reached(0.0):
        return 0.0
    low, high = 0.0, STEEPEST
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum(), dtype=np.float64)
