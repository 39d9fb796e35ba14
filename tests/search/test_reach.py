from __future__ import annotations

import pytest

from mpqdeploy.core import Budget, BudgetError, ConfigError, CostTable, Precision
from mpqdeploy.search.reach import check_reachable
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(6)
CANDIDATES = make_candidates(SITES)
TABLES = all_tables(SITES)


def test_the_tightest_budget_comes_first() -> None:
    size, bops = TABLES["bytes"].bounds(CANDIDATES), TABLES["bops"].bounds(CANDIDATES)
    budgets = [
        Budget(metric="bytes", limit=size[0] + 0.8 * (size[1] - size[0])),
        Budget(metric="bops", limit=bops[0] + 0.3 * (bops[1] - bops[0])),
    ]
    ranges = check_reachable(TABLES, budgets, CANDIDATES)
    assert [one.metric for one in ranges] == ["bops", "bytes"]
    assert ranges[0].room == pytest.approx(0.3)


def test_below_the_cheapest_network_names_metric_limit_and_least() -> None:
    least, _ = TABLES["latency"].bounds(CANDIDATES)
    with pytest.raises(BudgetError) as caught:
        check_reachable(TABLES, [Budget(metric="latency", limit=least / 2)], CANDIDATES)
    text = str(caught.value)
    assert "latency" in text
    assert f"{least / 2:.6g} us" in text
    assert f"{least:.6g} us" in text


def test_exactly_the_cheapest_network_is_reachable() -> None:
    least, _ = TABLES["bytes"].bounds(CANDIDATES)
    assert check_reachable(TABLES, [Budget(metric="bytes", limit=least)], CANDIDATES)


def test_budgets_that_pull_apart_say_what_each_needs() -> None:
    small, fast = Precision.parse("1/8"), Precision.parse("8/1")
    tables = {
        "latency": CostTable(metric="latency", unit="us", entries={"a": {small: 9.0, fast: 1.0}}),
        "bytes": CostTable(metric="bytes", unit="B", entries={"a": {small: 1.0, fast: 8.0}}),
    }
    budgets = [Budget(metric="latency", limit=5.0), Budget(metric="bytes", limit=4.0)]
    with pytest.raises(BudgetError, match=r"latency needs 9 us .*80 % more.*bytes needs 8 B"):
        check_reachable(tables, budgets, {"a": (small, fast)})


def test_of_budgets_that_pull_apart_the_one_to_raise_least_binds() -> None:
    small, fast = Precision.parse("1/8"), Precision.parse("8/1")
    tables = {
        "latency": CostTable(metric="latency", unit="us", entries={"a": {small: 9.0, fast: 1.0}}),
        "bytes": CostTable(metric="bytes", unit="B", entries={"a": {small: 1.0, fast: 8.0}}),
        "bops": CostTable(metric="bops", unit="BOPs", entries={"a": {small: 8.0, fast: 8.0}}),
    }
    budgets = [
        Budget(metric="latency", limit=5.0),
        Budget(metric="bytes", limit=7.9),
        Budget(metric="bops", limit=8.0),
    ]
    with pytest.raises(BudgetError) as caught:
        check_reachable(tables, budgets, {"a": (small, fast)})
    assert "together: bytes needs 8 B" in caught.value.message
    assert "bops needs" not in caught.value.message
    assert caught.value.hint.startswith("bytes binds")


def test_a_budget_without_a_table_is_named() -> None:
    with pytest.raises(ConfigError, match="bops"):
        check_reachable({}, [Budget(metric="bops", limit=1.0)], CANDIDATES)
