from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Budget, Metric, Policy
from mpqdeploy.search.decide import decide
from mpqdeploy.search.program import cheapest
from mpqdeploy.search.spend import spend
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(6)
CANDIDATES = make_candidates(SITES)
TABLES = all_tables(SITES)
SCORES = {s: {p: float(p.weight_bits) for p in CANDIDATES[s]} for s in CANDIDATES}


def budget(metric: Metric, room: float) -> Budget:
    least, greatest = TABLES[metric].bounds(CANDIDATES)
    return Budget(metric=metric, limit=least + room * (greatest - least))


def smallest() -> Policy:
    found = cheapest(TABLES["bops"], TABLES, [], CANDIDATES)
    assert found is not None
    return found


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.2, 1.0))
def test_stays_inside_and_leaves_no_upgrade_that_fits(bops: float, size: float) -> None:
    budgets = [budget("bops", bops), budget("bytes", size)]
    policy = spend(smallest(), SCORES, TABLES, budgets, CANDIDATES).policy
    assert all(b.holds(TABLES[b.metric].of(policy)) for b in budgets)
    for site, current in policy.precisions.items():
        for wide in CANDIDATES[site]:
            if (wide.weight_bits, wide.act_bits) == (current.weight_bits, current.act_bits):
                continue
            if wide.weight_bits >= current.weight_bits and wide.act_bits >= current.act_bits:
                more = Policy(precisions={**policy.precisions, site: wide})
                assert not all(b.holds(TABLES[b.metric].of(more)) for b in budgets)


def test_the_greatest_gain_per_cost_goes_first() -> None:
    free = [s for s in CANDIDATES if len(CANDIDATES[s]) > 1]
    scores = {s: dict.fromkeys(CANDIDATES[s], 0.0) for s in CANDIDATES}
    scores[free[0]] = SCORES[free[0]]
    start = smallest()
    limit = TABLES["bops"].of(start)
    widest = CANDIDATES[free[0]][0]
    limit += TABLES["bops"].cost(free[0], widest) - TABLES["bops"].cost(free[0], start[free[0]])
    spent = spend(start, scores, TABLES, [Budget(metric="bops", limit=limit)], CANDIDATES)
    assert spent.policy[free[0]] == widest


def test_no_room_no_upgrade() -> None:
    budgets = [budget("bops", 0.0)]
    spent = spend(smallest(), SCORES, TABLES, budgets, CANDIDATES)
    assert spent.policy == smallest()
    assert spent.upgrades == 0


def test_decide_repairs_and_then_spends() -> None:
    widest = Policy(precisions={s: choices[0] for s, choices in CANDIDATES.items()})
    budgets = [budget("latency", 0.4)]
    bare = decide(widest, SCORES, TABLES, budgets, CANDIDATES, use_rest=False)
    full = decide(widest, SCORES, TABLES, budgets, CANDIDATES, use_rest=True)
    assert bare.moves == full.moves > 0
    assert bare.upgrades == 0
    costs = [TABLES["latency"].of(one.policy) for one in (bare, full)]
    assert costs[0] <= costs[1] <= budgets[0].limit
