"""The exact assignment: the best-scored policy inside every budget, as an integer program.

    maximise sum_ij score_ij z_ij   subject to   sum_j z_ij = 1,   C_k(z) <= B_k,   z_ij in {0, 1}

A few hundred binaries; HiGHS solves it in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from mpqdeploy.core import Budget, CostTable, Policy, Precision
from mpqdeploy.search.cost import Candidates

Scores = Mapping[str, Mapping[Precision, float]]

_SLACK = 1e-9
"""Relative: the solver's feasibility tolerance must not let a policy a hair over its budget."""


def assign(
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> Policy | None:
    """The policy with the greatest total score inside all budgets; None where there is none."""
    sites = list(candidates)
    pairs = [(i, p) for i, site in enumerate(sites) for p in candidates[site]]
    value = np.array([scores[sites[i]][p] for i, p in pairs], dtype=np.float64)
    one_each = np.zeros((len(sites), len(pairs)))
    for column, (i, _) in enumerate(pairs):
        one_each[i, column] = 1.0
    constraints = [LinearConstraint(one_each, 1.0, 1.0)]
    for budget in budgets:
        table = tables[budget.metric]
        row = np.array([table.cost(sites[i], p) for i, p in pairs])
        room = budget.limit - table.offset
        scale = max(float(np.abs(row).max()), 1e-30)
        # A budget equal to the least reachable cost must stay feasible in floating point.
        least = sum(float(table.vector(site, candidates[site]).min()) for site in sites)
        upper = room if room <= least * (1 + _SLACK) else room * (1 - _SLACK)
        constraints.append(LinearConstraint(row[None] / scale, -np.inf, upper / scale))
    answer = milp(
        -value, constraints=constraints, bounds=Bounds(0, 1), integrality=np.ones_like(value)
    )
    if answer.x is None:
        return None
    chosen = {sites[i]: p for (i, p), z in zip(pairs, answer.x, strict=True) if z > 0.5}
    return Policy(precisions=chosen)


def cheapest(
    table: CostTable,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> Policy | None:
    """The policy that costs least by `table` among those inside `budgets`; None: none is inside."""
    low, high = table.bounds(candidates)
    scale = max(high - low, 1e-30)
    scores = {s: {p: -table.cost(s, p) / scale for p in candidates[s]} for s in candidates}
    return assign(scores, tables, budgets, candidates)
