from __future__ import annotations

from mpqdeploy.core import CostTable, Precision
from mpqdeploy.search.dominance import drop_dominated

P = Precision.parse
NAMES = ["8/8", "4/8", "4/4", "2/2"]
CHOICES = {"conv": [P(name) for name in NAMES]}


def table(metric: str, *costs: float) -> CostTable:
    entries = {"conv": dict(zip(CHOICES["conv"], costs, strict=True))}
    return CostTable(metric=metric, unit="u", entries=entries)


def kept(*tables: CostTable) -> list[str]:
    return [str(p) for p in drop_dominated(CHOICES, tables).candidates["conv"]]


def test_slower_and_narrower_is_dropped_with_a_reason() -> None:
    narrowed = drop_dominated(CHOICES, [table("latency", 10, 12, 13, 5)])
    assert [str(p) for p in narrowed.candidates["conv"]] == ["8/8", "2/2"]
    assert len(narrowed.reasons) == 2
    assert "conv: 4/8 dropped, 8/8" in narrowed.reasons[0]


def test_a_second_budget_keeps_what_is_smaller() -> None:
    latency, size = table("latency", 10, 12, 13, 5), table("bytes", 8, 4, 4, 2)
    assert kept(latency, size) == ["8/8", "4/8", "2/2"]


def test_measured_latency_has_a_tolerance_and_counted_metrics_have_none() -> None:
    assert kept(table("latency", 10, 9.95, 5, 4)) == ["8/8", "4/4", "2/2"]
    assert kept(table("bops", 10, 9.95, 5, 4)) == NAMES


def test_tolerances_do_not_add_up_along_a_chain() -> None:
    assert kept(table("latency", 10, 9.93, 9.86, 9.79)) == ["8/8", "4/4"]


def test_incomparable_precisions_stay() -> None:
    choices = {"conv": [P("1/8"), P("8/1")]}
    entries = {"conv": {P("1/8"): 5.0, P("8/1"): 9.0}}
    latency = CostTable(metric="latency", unit="us", entries=entries)
    assert drop_dominated(choices, [latency]).candidates["conv"] == (P("1/8"), P("8/1"))


def test_a_pinned_site_keeps_its_only_candidate() -> None:
    choices = {"conv": [P("8/8")]}
    latency = CostTable(metric="latency", unit="us", entries={"conv": {P("8/8"): 5.0}})
    assert drop_dominated(choices, [latency]).candidates["conv"] == (P("8/8"),)
