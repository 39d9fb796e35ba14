"""From an argmax network to the policy: into the budgets, then up to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Budget, CostTable, Policy
from mpqdeploy.search.cost import Candidates
from mpqdeploy.search.program import Scores
from mpqdeploy.search.repair import repair
from mpqdeploy.search.spend import spend


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A policy inside every budget, and what it took from the argmax network to it."""

    policy: Policy
    moves: int
    upgrades: int


def decide(
    chosen: Policy,
    scores: Scores,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    candidates: Candidates,
    *,
    use_rest: bool,
) -> Decision:
    """`repair`, then `spend` where `use_rest`. Raises `BudgetError` where no network fits."""
    repaired = repair(chosen, scores, tables, budgets, candidates)
    if not use_rest:
        return Decision(policy=repaired.policy, moves=repaired.moves, upgrades=0)
    spent = spend(repaired.policy, scores, tables, budgets, candidates)
    return Decision(policy=spent.policy, moves=repaired.moves, upgrades=spent.upgrades)
