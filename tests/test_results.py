from __future__ import annotations

import json

import pytest

from mpqdeploy.core import Budget
from mpqdeploy.results import Round, Row, Summary
from tests.report.summaries import record, row, summary, turn


def through_json(data: object) -> object:
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("policy", [True, False])
def test_a_row_survives_json(policy: bool) -> None:
    before = row("searched", policy=policy)
    after = Row.from_json(through_json(before.to_json()))  # type: ignore[arg-type]
    assert after == before


def test_a_round_survives_json() -> None:
    before = turn("round 0", 12.5)
    after = Round.from_json(through_json(before.to_json()))  # type: ignore[arg-type]
    assert after == before


def test_a_latency_budget_is_held_against_the_upper_end_of_the_interval() -> None:
    one = row("searched", us=10.0)
    low, high = one.latency.interval_us
    assert low < one.latency.median_us < high
    assert one.cost("latency") == high
    assert one.inside((Budget(metric="latency", limit=high),))
    between = (one.latency.median_us + high) / 2
    assert not one.inside((Budget(metric="latency", limit=between),))


def test_every_budget_counts() -> None:
    one = row("searched")
    wide = Budget(metric="latency", limit=1e9)
    assert (one.cost("bytes"), one.cost("bops")) == (one.bytes, one.bops)
    exact = Budget(metric="bytes", limit=one.bytes)
    assert one.inside((wide, exact))
    assert not one.inside((wide, Budget(metric="bytes", limit=one.bytes - 1)))
    assert not one.inside((wide, exact, Budget(metric="bops", limit=one.bops / 2)))
    assert one.inside(())


def test_the_last_row_is_the_searched_one() -> None:
    whole = summary(limit_us=1e6)
    assert whole.searched is whole.rows[-1]
    assert whole.holds
    assert not summary(limit_us=1.0).holds


def test_a_summary_as_json_has_what_its_parts_have() -> None:
    whole = summary(limit_us=1e6)
    data = through_json(whole.to_json())
    assert isinstance(data, dict)
    assert data["holds"] is True
    assert tuple(Budget(**budget) for budget in data["budgets"]) == whole.budgets
    assert tuple(Row.from_json(one) for one in data["rows"]) == whole.rows
    assert tuple(Round.from_json(one) for one in data["rounds"]) == whole.rounds
    assert data["rounds"][0]["measured"]["samples_us"] == list(record(11.0).samples_us)
    kept = ("title", "bundle", "report", "seconds")
    assert {key: data[key] for key in kept} == {key: getattr(whole, key) for key in kept}
    assert set(data) == {*vars(whole), "holds"}
    assert isinstance(whole, Summary)
