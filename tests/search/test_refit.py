from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Budget, ConfigError, Policy, Precision
from mpqdeploy.search.program import assign
from mpqdeploy.search.refit import Round, fit, refit, uncorrected
from tests.search.spaces import latency_table, make_candidates, make_sites

SITES = make_sites(8)
CANDIDATES = make_candidates(SITES)
TABLE = latency_table(SITES)
LEAST, GREATEST = TABLE.bounds(CANDIDATES)


def exact(predicted: float, measured: float) -> Round:
    return Round(
        predicted=predicted, measured=measured, low=0.999 * measured, high=1.001 * measured
    )


def test_one_round_above_the_prediction_is_halved_between_offset_and_scale() -> None:
    offset, scale = fit([exact(100.0, 130.0)])
    assert offset == pytest.approx(15.0, rel=0.01)
    assert scale == pytest.approx(1.15, rel=0.01)
    assert offset + scale * 100.0 == pytest.approx(130.0, rel=1e-3)


def test_one_round_below_the_prediction_is_a_scale() -> None:
    offset, scale = fit([exact(100.0, 80.0)])
    assert offset == pytest.approx(0.0, abs=1e-3)
    assert scale == pytest.approx(0.8, rel=1e-2)


def test_rounds_far_apart_outweigh_the_prior() -> None:
    offset, scale = fit([exact(s, 20.0 + 1.5 * s) for s in (50.0, 100.0, 200.0)])
    assert offset == pytest.approx(20.0, rel=0.05)
    assert scale == pytest.approx(1.5, rel=0.02)


def test_rounds_close_together_keep_the_prior_slope() -> None:
    """Half a percent apart, a one percent misfit says nothing about the slope."""
    _, scale = fit([exact(100.0, 130.0), exact(100.5, 128.0)])
    assert scale == pytest.approx(1.15, abs=0.1)


def test_few_rounds_do_not_declare_a_budget_infeasible() -> None:
    """The device is twice as slow throughout; the halved miss would leave no network."""
    least = 25.0
    budget = Budget(metric="latency", limit=60.0)
    answer = refit(TABLE, budget, [exact(100.0, 200.0)], least=least)
    assert answer.table.offset + answer.table.scale * least <= budget.limit


def test_the_margin_alone_does_not_make_a_budget_infeasible() -> None:
    budget = Budget(metric="latency", limit=1.02 * LEAST)
    wide = Round(predicted=LEAST, measured=LEAST, low=0.95 * LEAST, high=1.05 * LEAST)
    answer = refit(TABLE, budget, [wide], least=LEAST)
    assert answer.budget.limit >= answer.table.bounds(CANDIDATES)[0]


def test_networks_measured_for_comparison_do_not_count_as_misses() -> None:
    budget = Budget(metric="latency", limit=50.0)
    rounds = [exact(100.0, 110.0), exact(50.0, 60.0)]
    all_count = refit(TABLE, budget, rounds)
    one_counts = refit(TABLE, budget, rounds, misses=1)
    assert all_count.margin == pytest.approx(one_counts.margin + 0.01)


def test_no_round_is_an_error() -> None:
    with pytest.raises(ConfigError, match="latency"):
        refit(TABLE, Budget(metric="latency", limit=1.0), [])


def test_the_stop_rule_asks_for_the_whole_interval() -> None:
    budget = Budget(metric="latency", limit=100.0)
    assert Round(predicted=90.0, measured=95.0, low=90.0, high=99.0).inside(budget)
    assert not Round(predicted=90.0, measured=99.0, low=95.0, high=101.0).inside(budget)


def best_inside(limit: float, table: object) -> Policy:
    scores = {s: {p: float(p.weight_bits * p.act_bits) for p in CANDIDATES[s]} for s in CANDIDATES}
    found = assign(scores, {"latency": table}, [Budget(metric="latency", limit=limit)], CANDIDATES)  # type: ignore[dict-item]
    assert found is not None
    return found


@settings(max_examples=30, deadline=None)
@given(
    offset=st.floats(0.0, 0.6),
    scale=st.floats(0.6, 1.8),
    noise=st.floats(0.0, 0.01),
    room=st.floats(0.3, 0.8),
    seed=st.integers(0, 2**16),
)
def test_a_device_with_offset_scale_and_noise_is_met_in_three_rounds(
    offset: float, scale: float, noise: float, room: float, seed: int
) -> None:
    """The search always spends the whole limit; the budget lies well inside the device's range."""
    rng = np.random.default_rng(seed)
    cheapest, dearest = (offset * LEAST + scale * s for s in (LEAST, GREATEST))
    budget = Budget(metric="latency", limit=cheapest + room * (dearest - cheapest))
    assume(budget.limit >= LEAST)
    table, limit = TABLE, budget.limit
    rounds: list[Round] = []
    for _ in range(3):
        policy = best_inside(limit, table)
        predicted = uncorrected(TABLE).of(policy)
        true = offset * LEAST + scale * predicted
        samples = true * (1 + noise * rng.normal(size=2))
        half = 2.5 * noise * true / np.sqrt(30)
        measured = float(samples.mean())
        rounds.append(
            Round(predicted=predicted, measured=measured, low=measured - half, high=measured + half)
        )
        if rounds[-1].inside(budget):
            break
        answer = refit(TABLE, budget, rounds, least=LEAST)
        table, limit = answer.table, answer.budget.limit
    assert rounds[-1].inside(budget)


def test_a_precision_table_keeps_its_entries() -> None:
    answer = refit(TABLE, Budget(metric="latency", limit=GREATEST), [exact(100.0, 150.0)])
    eight = Policy.uniform(SITES, Precision.parse("8/8"))
    raw = uncorrected(answer.table)
    assert raw.of(eight) == TABLE.of(eight)
    assert answer.table.of(eight) > TABLE.of(eight)
