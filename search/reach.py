"""What a search space can reach, computed before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Budget, BudgetError, ConfigError, CostTable
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import cheapest

ROUNDING = 1e-9
"""Relative: two sums of the same costs in another order."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """One budget against the reachable range of its metric, in the metric's unit."""

    metric: str
    unit: str
    least: float
    greatest: float
    limit: float

    @property
    def room(self) -> float:
        """Where the limit lies in the range: 0 at the cheapest network, 1 at the dearest."""
        span = self.greatest - self.least
        return (self.limit - self.least) / span if span > 0 else float("inf")


def reach(budget: Budget, table: CostTable, candidates: Candidates) -> Reach:
    """Range of one metric over the candidates, beside its limit."""
    least, greatest = table.bounds(candidates)
    return Reach(
        metric=budget.metric, unit=table.unit, least=least, greatest=greatest, limit=budget.limit
    )


def check_reachable(
    tables: Mapping[str, CostTable], budgets: Sequence[Budget], candidates: Candidates
) -> tuple[Reach, ...]:
    """Ranges of all budgets, tightest first (the first one binds).

    Raises `BudgetError` for a budget below the cheapest network, with the least reachable cost,
    and for budgets that no network meets together, with the least reachable cost of each inside
    the others; `ConfigError` for a budget without a table.
    """
    for budget in budgets:
        if budget.metric not in tables:
            raise ConfigError(
                f"there is no cost table for the budget on {budget.metric}.",
                hint=f"Tables at hand: {', '.join(sorted(tables)) or 'none'}.",
            )
    ranges = [reach(budget, tables[budget.metric], candidates) for budget in budgets]
    for one in ranges:
        # A limit that was set to the least reachable cost may differ from it in the last bits.
        if one.limit < one.least * (1 - ROUNDING):
            raise BudgetError(
                f"the {one.metric} budget of {_amount(one.limit, one.unit)} is below the cheapest "
                f"network of the search space: the least reachable {one.metric} is "
                f"{_amount(one.least, one.unit)}.",
                hint="Raise the budget, or allow cheaper precisions.",
            )
    if len(budgets) > 1:
        _check_together(tables, budgets, candidates)
    return tuple(sorted(ranges, key=lambda one: one.room))


def _check_together(
    tables: Mapping[str, CostTable], budgets: Sequence[Budget], candidates: Candidates
) -> None:
    together = cheapest(tables[budgets[0].metric], tables, budgets, candidates)
    if together is not None:
        return
    needs = []
    for budget in budgets:
        table = tables[budget.metric]
        others = [other for other in budgets if other is not budget]
        best = cheapest(table, tables, others, candidates)
        if best is not None:
            needs.append((table.of(best) / budget.limit, budget, table.of(best), table.unit))
    # The first one binds: it has to give way least.
    needs.sort(key=lambda need: need[0])
    detail = "; ".join(
        f"{budget.metric} needs {_amount(cost, unit)} (limit {_amount(budget.limit, unit)}, "
        f"{100 * (ratio - 1):.2g} % more) inside the others"
        for ratio, budget, cost, unit in needs
    )
    binding = f"{needs[0][1].metric} binds: raise it first" if needs else "Raise two of them"
    raise BudgetError(
        "each budget can be met alone, but no network meets all of them together: "
        f"{detail or 'no pair of them can be met either'}.",
        hint=f"{binding}, or allow more precisions.",
    )


def _amount(value: float, unit: str) -> str:
    return f"{value:.6g} {unit}"
