from __future__ import annotations

import pytest

from mpqdeploy.core import Budget, BudgetError, CostTable, Policy, parse_precisions
from mpqdeploy.results import Round
from mpqdeploy.search.program import cheapest
from mpqdeploy.steps.demand import Ask
from mpqdeploy.steps.draft import draft_round
from tests.report.summaries import record

WIDE, MIDDLE, NARROW = PRECISIONS = parse_precisions(("8/8", "4/4", "2/2"))
SITES = ("a", "b", "c")
# 4/4 is the fastest, 2/2 the smallest: the two budgets pull apart.
TIMES = dict(zip(PRECISIONS, (8.0, 3.0, 5.0), strict=True))
SIZES = dict(zip(PRECISIONS, (8.0, 4.0, 2.0), strict=True))
TABLE = CostTable(metric="latency", unit="us", entries=dict.fromkeys(SITES, TIMES))
BYTES = CostTable(metric="bytes", unit="B", entries=dict.fromkeys(SITES, SIZES))


def ask(**limits: float) -> Ask:
    return Ask(
        table=TABLE,
        counted={"bytes": BYTES},
        budgets=tuple(Budget(metric=m, limit=limit) for m, limit in limits.items()),  # type: ignore[arg-type]
        candidates=dict.fromkeys(SITES, PRECISIONS),
    )


def anchors(factor: float = 1.0) -> list[Round]:
    policies = [Policy(precisions=dict.fromkeys(SITES, p)) for p in (WIDE, MIDDLE)]
    return [
        draft_round(i, "anchor", p, TABLE, record(factor * TABLE.of(p)), limit=0.0, moves=0)
        for i, p in enumerate(policies)
    ]


def test_budgets_that_nothing_measures_are_passed_on() -> None:
    asked = ask(bytes=20.0)
    found = asked.demand([], [])
    assert found.fit is None
    assert found.budgets == asked.budgets
    asked.check([])


def test_the_table_is_corrected_and_the_latency_budget_tightened() -> None:
    found = ask(latency=18.0, bytes=20.0).demand(anchors(1.2), [])
    latency = found.tables["latency"]
    assert latency.of(anchors()[0].policy) == pytest.approx(1.2 * 24, rel=0.02)
    assert found.budgets[0].limit < 18.0
    assert found.budgets[1].limit == 20.0


def test_a_tightened_budget_leaves_the_fastest_network_inside_the_others() -> None:
    """4/4 everywhere takes 9 us but 12 bytes; within 8 bytes 13 us are needed."""
    asked = ask(latency=13.2, bytes=8.0)
    asked.check(anchors())
    found = asked.demand(anchors(), anchors()[:1])
    assert cheapest(TABLE, found.tables, found.budgets, asked.candidates) is not None


def test_latency_that_no_network_reaches_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"least reachable is about 9\.\d us"):
        ask(latency=8.0).check(anchors())


def test_a_pair_that_no_network_meets_is_refused_and_the_binding_one_named() -> None:
    with pytest.raises(BudgetError, match="latency needs 13") as caught:
        ask(latency=12.0, bytes=8.0).check(anchors())
    assert "latency binds" in caught.value.hint
