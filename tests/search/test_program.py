from __future__ import annotations

import itertools

import numpy as np
import pytest

from mpqdeploy.core import Budget, Policy
from mpqdeploy.search.program import assign, cheapest
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(5)
CANDIDATES = make_candidates(SITES)
TABLES = all_tables(SITES)


def every_policy() -> list[Policy]:
    names = list(CANDIDATES)
    grids = itertools.product(*(CANDIDATES[name] for name in names))
    return [Policy(precisions=dict(zip(names, grid, strict=True))) for grid in grids]


@pytest.mark.parametrize("seed", range(4))
def test_best_score_inside_the_budgets_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = {s: {p: float(rng.normal()) for p in CANDIDATES[s]} for s in CANDIDATES}
    budgets = [
        Budget(metric="latency", limit=sum(TABLES["latency"].bounds(CANDIDATES)) / 2),
        Budget(metric="bytes", limit=sum(TABLES["bytes"].bounds(CANDIDATES)) / 2),
    ]
    best = assign(scores, TABLES, budgets, CANDIDATES)
    assert best is not None

    def total(policy: Policy) -> float:
        return sum(scores[s][policy[s]] for s in CANDIDATES)

    inside = [q for q in every_policy() if all(b.holds(TABLES[b.metric].of(q)) for b in budgets)]
    assert best in inside
    assert total(best) == pytest.approx(max(map(total, inside)))


def test_none_where_nothing_fits() -> None:
    least, _ = TABLES["bops"].bounds(CANDIDATES)
    budgets = [Budget(metric="bops", limit=0.99 * least)]
    assert cheapest(TABLES["bops"], TABLES, budgets, CANDIDATES) is None


def test_cheapest_reaches_the_bound() -> None:
    found = cheapest(TABLES["latency"], TABLES, [], CANDIDATES)
    assert found is not None
    assert TABLES["latency"].of(found) == pytest.approx(TABLES["latency"].bounds(CANDIDATES)[0])
