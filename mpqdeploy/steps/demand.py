"""What a round of the loop asks of the search: tables and budgets as the device corrected them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Budget, BudgetError, CostTable
from mpqdeploy.results import Round
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import cheapest
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.refit import Refit, Sums, refit, sums
from mpqdeploy.search.refit import Round as Point
from mpqdeploy.steps.anchors import Anchors
from mpqdeploy.steps.context import Context


@dataclass(frozen=True, kw_only=True)
class Demand:
    """`fit` is the correction that `tables` and `budgets` have taken in; None: nothing is timed."""

    tables: Mapping[str, CostTable]
    budgets: tuple[Budget, ...]
    fit: Refit | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What does not change from round to round: `table` is the latency table, uncorrected."""

    table: CostTable
    counted: Mapping[str, CostTable]
    budgets: tuple[Budget, ...]
    candidates: Candidates

    @property
    def latency(self) -> Budget | None:
        return next((b for b in self.budgets if b.metric == "latency"), None)

    def inside(self, turn: Round) -> bool:
        """The stop rule: the whole interval lies inside the latency budget, if there is one."""
        return self.latency is None or self.latency.holds(turn.measured.interval_us[1])

    def demand(self, known: Sequence[Round], missed: Sequence[Round]) -> Demand:
        """Corrected by all `known` rounds; `missed` are those of them that a search found.

        The tightened latency limit stays where a network that also meets the others can be.
        """
        tables = {**self.counted, "latency": self.table}
        if self.latency is None:
            return Demand(tables=tables, budgets=self.budgets)
        fit = refit(
            self.table,
            self.latency,
            [Point.of(self.table, turn.policy, turn.measured) for turn in known],
            least=self._least_inside(),
            # The anchors were measured for comparison; that they are over says nothing.
            misses=sum(not self.inside(turn) for turn in missed),
        )
        budgets = tuple(fit.budget if b is self.latency else b for b in self.budgets)
        return Demand(tables={**tables, "latency": fit.table}, budgets=budgets, fit=fit)

    def check(self, known: Sequence[Round]) -> None:
        """Raises `BudgetError` for budgets that no network meets, alone or together.

        The latency table is corrected by the rounds `known` so far, the budgets are the user's.
        """
        found = self.demand(known, ())
        if self.latency is not None and found.fit is not None:
            least, _ = found.fit.table.bounds(self.candidates)
            if self.latency.limit < least:
                raise BudgetError(
                    f"the latency budget of {self.latency.limit:.1f} us is below the cheapest "
                    f"network: the least reachable is about {least:.1f} us.",
                    hint="Raise the budget, or allow cheaper precisions.",
                )
        check_reachable(found.tables, self.budgets, self.candidates)

    def _least_inside(self) -> Sums | None:
        """The table's sums for the fastest network that meets all other budgets."""
        others = [budget for budget in self.budgets if budget is not self.latency]
        policy = cheapest(self.table, self.counted, others, self.candidates)
        return sums(self.table, policy) if policy is not None else None  # `check` says so


def ask(context: Context, table: CostTable, found: Anchors) -> Ask:
    return Ask(
        table=table,
        counted=context.counted,
        budgets=found.budgets,
        candidates=context.candidates,
    )
