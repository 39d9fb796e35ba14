"""Greedy use of what an argmax network leaves of its budgets, upgrade by upgrade [o].

The expected cost of a spread distribution is not the cost of its mode: as Prob-1 makes sites
one-hot, the dear candidates' share of E[C] vanishes, and the argmax network can end well below the
budget. Each upgrade takes one site to a wider candidate that still fits, by the greatest gain per
cost, cost in shares of each budget's room. A wider precision is worth something even where a noisy
score says otherwise: gains have a small floor that grows with the bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Budget, CostTable, Policy, Precision
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import Scores

FLOOR = 1e-6
"""Least gain per bit added to weights and activations, in units of the score."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A policy that nothing wider fits on, and how many upgrades it took."""

    policy: Policy
    upgrades: int


def spend(
    policy: Policy,
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> Spent:
    """Widen `policy`, which lies inside all `budgets`, for as long as something fits.

    `scores[site][precision]`: greater is better, additive over sites. Only candidates with at
    least as many weight bits and activation bits count, so the walk ends.
    """
    now = dict(policy.precisions)
    upgrades = 0
    while True:
        best = max(_upgrades(now, scores, tables, budgets, candidates), default=None)
        if best is None:
            return Spent(policy=Policy(precisions=now), upgrades=upgrades)
        _, site, precision = best
        now[site] = precision
        upgrades += 1


def _upgrades(
    now: Mapping[str, Precision],
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> list[tuple[float, str, Precision]]:
    """(gain per cost, site, precision) of every upgrade that fits."""
    policy = Policy(precisions=now)
    room = {b.metric: b.limit - tables[b.metric].of(policy) for b in budgets}
    found = []
    for site, current in now.items():
        for wide in candidates[site]:
            if not _wider(wide, current):
                continue
            share = 0.0
            for metric, left in room.items():
                more = tables[metric].cost(site, wide) - tables[metric].cost(site, current)
                share += more / left if left > 0 else (float("inf") if more > 0 else 0.0)
            widened = Policy(precisions={**now, site: wide})
            # Totals, not differences: the budget holds for the sum as it will be reported.
            if all(b.holds(tables[b.metric].of(widened)) for b in budgets):
                found.append((_gain(scores[site], current, wide) / max(share, 1e-9), site, wide))
    return found


def _wider(wide: Precision, current: Precision) -> bool:
    return (
        wide != current
        and wide.weight_bits >= current.weight_bits
        and wide.act_bits >= current.act_bits
    )


def _gain(scores: Mapping[Precision, float], current: Precision, wide: Precision) -> float:
    bits = wide.weight_bits - current.weight_bits + wide.act_bits - current.act_bits
    return max(scores[wide] - scores[current], FLOOR * bits)
