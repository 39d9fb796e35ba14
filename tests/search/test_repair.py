from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Budget, BudgetError, Policy, Precision
from mpqdeploy.search.program import cheapest
from mpqdeploy.search.repair import repair
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(6)
CANDIDATES = make_candidates(SITES)
TABLES = all_tables(SITES)
WIDEST = Policy.uniform(SITES, Precision.parse("8/8"))
SCORES = {s: {p: float(p.weight_bits) for p in CANDIDATES[s]} for s in CANDIDATES}


def test_a_policy_inside_is_left_alone() -> None:
    budgets = [Budget(metric="bops", limit=TABLES["bops"].of(WIDEST))]
    repaired = repair(WIDEST, SCORES, TABLES, budgets, CANDIDATES)
    assert repaired.policy == WIDEST
    assert repaired.moves == 0


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["latency", "bytes", "bops"]), st.floats(0.0, 1.0), min_size=1),
    st.integers(0, 2**16),
)
def test_any_jointly_reachable_budgets_are_met(rooms: dict[str, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = {s: {p: float(rng.normal()) for p in CANDIDATES[s]} for s in CANDIDATES}
    budgets = []
    for metric, room in rooms.items():
        least, greatest = TABLES[metric].bounds(CANDIDATES)
        budgets.append(Budget(metric=metric, limit=least + room * (greatest - least)))  # type: ignore[arg-type]
    if cheapest(TABLES[budgets[0].metric], TABLES, budgets, CANDIDATES) is None:
        with pytest.raises(BudgetError):
            repair(WIDEST, scores, TABLES, budgets, CANDIDATES)
        return
    repaired = repair(WIDEST, scores, TABLES, budgets, CANDIDATES)
    for budget in budgets:
        assert TABLES[budget.metric].of(repaired.policy) <= budget.limit * (1 + 1e-9)


def test_the_cheapest_loss_per_cost_moves_first() -> None:
    bops = TABLES["bops"]
    free = [s for s in CANDIDATES if len(CANDIDATES[s]) > 1]
    precious, cheap = free[0], free[-1]
    scores = {s: {p: 100.0 * p.weight_bits for p in CANDIDATES[s]} for s in CANDIDATES}
    scores[cheap] = {p: 0.01 * p.weight_bits for p in CANDIDATES[cheap]}
    budgets = [Budget(metric="bops", limit=bops.of(WIDEST) * 0.999)]
    repaired = repair(WIDEST, scores, TABLES, budgets, CANDIDATES)
    assert repaired.moves == 1
    assert repaired.policy[precious] == WIDEST[precious]
    assert repaired.policy[cheap] != WIDEST[cheap]
