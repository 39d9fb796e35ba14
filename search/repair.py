"""Greedy repair: brings an argmax network that lies over a budget inside it, move by move [o].

Discretising a distribution may cost more than its expectation. Each move takes one site to another
candidate and is chosen by the least loss per unit of violation removed, where the violation is
V = sum_k max(0, C_k - B_k) / (C_max,k - C_min,k): all metrics in shares of their range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Budget, BudgetError, CostTable, Policy, Precision
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import Scores, assign


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A policy inside every budget, and how many sites changed on the way."""

    policy: Policy
    moves: int


def repair(
    policy: Policy,
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> Repaired:
    """Bring `policy` inside all `budgets`, losing as little score as a greedy walk can.

    `scores[site][precision]`: greater is better, additive over sites; log-probabilities or negated
    sensitivities. Every move lowers V strictly, so the walk ends. With one budget it cannot get
    stuck above a reachable limit; with several that pull apart it can, and then the exact integer
    program decides and the moves are the sites where its policy differs. Raises `BudgetError`
    where no network meets the budgets.
    """
    walk = _Walk(dict(policy.precisions), scores, tables, budgets, candidates)
    moves = 0
    while walk.violation > 0:
        if not walk.step():
            return _exact(policy, scores, tables, budgets, candidates)
        moves += 1
    return Repaired(policy=Policy(precisions=walk.now), moves=moves)


class _Walk:
    def __init__(
        self,
        now: dict[str, Precision],
        scores: Scores,
        tables: Mapping[str, CostTable],
        budgets: Sequence[Budget],
        candidates: Candidates,
    ) -> None:
        self.now = now
        self._scores = scores
        self._candidates = candidates
        self._tables = [tables[budget.metric] for budget in budgets]
        self._limits = [budget.limit for budget in budgets]
        bounds = [table.bounds(candidates) for table in self._tables]
        self._spans = [high - low if high > low else 1.0 for low, high in bounds]
        self._costs = self._totals()

    @property
    def violation(self) -> float:
        return self._violation(self._costs)

    def step(self) -> bool:
        """Make the best move; False where no move lowers the violation."""
        best = min(self._moves(), key=lambda move: move[0], default=None)
        if best is None:
            return False
        _, site, precision = best
        self.now[site] = precision
        self._costs = self._totals()
        return True

    def _moves(self) -> Iterator[tuple[float, str, Precision]]:
        """(loss per violation removed, site, precision) of every move that helps."""
        before = self.violation
        for site, current in self.now.items():
            for other in self._candidates[site]:
                shift = [t.cost(site, other) - t.cost(site, current) for t in self._tables]
                after = self._violation([c + d for c, d in zip(self._costs, shift, strict=True)])
                # Rounding may report a gain where there is none; the walk must not circle on it.
                if after < before * (1 - 1e-12):
                    loss = self._scores[site][current] - self._scores[site][other]
                    yield loss / (before - after), site, other

    def _totals(self) -> list[float]:
        policy = Policy(precisions=self.now)
        return [table.of(policy) for table in self._tables]

    def _violation(self, costs: Sequence[float]) -> float:
        """V; an excess in the last digits of a sum over sites is rounding, not cost."""
        total = 0.0
        for cost, limit, span in zip(costs, self._limits, self._spans, strict=True):
            excess = cost - limit
            if excess > 1e-12 * abs(limit):
                total += excess / span
        return total


def _exact(
    policy: Policy,
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
) -> Repaired:
    best = assign(scores, tables, budgets, candidates)
    if best is None:
        limits = ", ".join(f"{budget.metric} <= {budget.limit:.6g}" for budget in budgets)
        raise BudgetError(
            f"no network of the search space meets {limits}.",
            hint="Raise a budget, or allow cheaper precisions.",
        )
    moves = sum(best[site] != policy[site] for site in policy.precisions)
    return Repaired(policy=best, moves=moves)
