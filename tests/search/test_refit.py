from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Budget, ConfigError, Policy, Precision
from mpqdeploy.search.program import assign
from mpqdeploy.search.refit import Correction, Round, fit, refit, sums
from tests.search.spaces import latency_table, make_candidates, make_sites

SITES = make_sites(8)
CANDIDATES = make_candidates(SITES)
TABLE = latency_table(SITES)
LEAST, GREATEST = TABLE.bounds(CANDIDATES)
CHEAPEST = Policy(
    precisions={s: min(ps, key=partial(TABLE.cost, s)) for s, ps in CANDIDATES.items()}
)
EIGHT, FOUR, ONE = (Precision.parse(text) for text in ("8/8", "4/4", "1/1"))


def exact(predicted: float, measured: float, precision: Precision = EIGHT) -> Round:
    return mixed({precision: predicted}, measured)


def mixed(parts: dict[Precision, float], measured: float) -> Round:
    return Round(sums=parts, measured=measured, low=0.999 * measured, high=1.001 * measured)


def slope(found: Correction, precision: Precision = EIGHT) -> float:
    return found.of({precision: 101.0}) - found.of({precision: 100.0})


def test_one_round_above_the_prediction_is_shared_between_offset_and_scale() -> None:
    """By the variances of the priors: 0.3^2 for the offset, 0.3^2 + 0.15^2 for 8/8's scale."""
    found = fit([exact(100.0, 130.0)])
    share = 0.3**2 / (2 * 0.3**2 + 0.15**2)
    assert found.offset == pytest.approx(30.0 * share, rel=0.01)
    assert slope(found) == pytest.approx(1 + 0.3 * (1 - share), rel=0.01)
    assert found.of({EIGHT: 100.0}) == pytest.approx(130.0, rel=2e-3)


def test_one_round_below_the_prediction_is_a_scale() -> None:
    found = fit([exact(100.0, 80.0)])
    assert found.offset == pytest.approx(0.0, abs=1e-3)
    assert slope(found) == pytest.approx(0.8, rel=1e-2)


def test_rounds_far_apart_outweigh_the_prior() -> None:
    found = fit([exact(s, 20.0 + 1.5 * s) for s in (50.0, 100.0, 200.0)])
    assert found.offset == pytest.approx(20.0, rel=0.05)
    assert slope(found) == pytest.approx(1.5, rel=0.02)


def test_rounds_close_together_keep_the_prior_slope() -> None:
    """Half a percent apart, a one percent misfit says nothing about the slope."""
    found = fit([exact(100.0, 130.0), exact(100.5, 128.0)])
    assert slope(found) == pytest.approx(1.16, abs=0.1)


def test_a_precision_gets_a_factor_of_its_own_where_networks_mix_it() -> None:
    """4/4 layers take 20 % more than their kernels, 1/1 layers 10 % less: mixtures tell."""
    truth = {EIGHT: 1.0, FOUR: 1.2, ONE: 0.9}
    shares = [(100, 0, 0), (0, 80, 0), (0, 0, 50), (60, 20, 10), (20, 40, 15), (70, 0, 20)]
    rounds = []
    for parts in shares:
        split = dict(zip(truth, map(float, parts), strict=True))
        rounds.append(mixed(split, 5.0 + sum(truth[p] * s for p, s in split.items())))
    found = fit(rounds)
    unseen = {EIGHT: 40.0, FOUR: 10.0, ONE: 30.0}
    assert found.of(unseen) == pytest.approx(5.0 + 40.0 + 12.0 + 27.0, rel=0.015)
    assert found.factors[FOUR] / found.factors[ONE] == pytest.approx(1.2 / 0.9, rel=0.05)


def test_a_precision_that_no_round_contained_keeps_the_common_scale() -> None:
    found = fit([exact(100.0, 150.0), exact(200.0, 300.0)])
    assert slope(found, ONE) == pytest.approx(found.scale)
    assert FOUR not in found.factors


def test_the_corrected_table_and_the_correction_agree() -> None:
    policy = Policy.uniform(SITES, FOUR)
    rounds = [mixed(sums(TABLE, policy), 321.0), mixed(sums(TABLE, Policy.uniform(SITES, ONE)), 99)]
    found = fit(rounds)
    assert found.corrected(TABLE).of(policy) == pytest.approx(found.of(sums(TABLE, policy)))


def test_few_rounds_do_not_declare_a_budget_infeasible() -> None:
    """The device is twice as slow throughout; the halved miss would leave no network."""
    budget = Budget(metric="latency", limit=60.0)
    answer = refit(TABLE, budget, [exact(100.0, 200.0)], least={EIGHT: 25.0})
    assert answer.table.offset + answer.table.scale * 25.0 <= budget.limit


def test_the_margin_alone_does_not_make_a_budget_infeasible() -> None:
    budget = Budget(metric="latency", limit=1.02 * LEAST)
    least = sums(TABLE, CHEAPEST)
    wide = Round(sums=least, measured=LEAST, low=0.95 * LEAST, high=1.05 * LEAST)
    answer = refit(TABLE, budget, [wide], least=least)
    assert answer.budget.limit >= answer.table.bounds(CANDIDATES)[0]


def test_networks_measured_for_comparison_do_not_count_as_misses() -> None:
    budget = Budget(metric="latency", limit=50.0)
    rounds = [exact(100.0, 110.0), exact(50.0, 60.0)]
    all_count = refit(TABLE, budget, rounds)
    one_counts = refit(TABLE, budget, rounds, misses=1)
    assert all_count.margin == pytest.approx(one_counts.margin + 0.01)


def test_a_network_faster_than_the_fit_does_not_tighten_the_budget() -> None:
    budget = Budget(metric="latency", limit=200.0)
    explained = [exact(100.0, 100.0), exact(50.0, 50.0), exact(80.0, 80.0)]
    faster = refit(TABLE, budget, [*explained, exact(100.0, 90.0)])
    slower = refit(TABLE, budget, [*explained, exact(100.0, 110.0)])
    assert 0 < faster.worst_excess < 0.05  # of its neighbours, by what the fit gave way
    assert slower.worst_excess > 0.05
    assert faster.margin < slower.margin


def test_no_round_is_an_error() -> None:
    with pytest.raises(ConfigError, match="latency"):
        refit(TABLE, Budget(metric="latency", limit=1.0), [])


def test_the_stop_rule_asks_for_the_whole_interval() -> None:
    budget = Budget(metric="latency", limit=100.0)
    assert Round(sums={EIGHT: 90.0}, measured=95.0, low=90.0, high=99.0).inside(budget)
    assert not Round(sums={EIGHT: 90.0}, measured=99.0, low=95.0, high=101.0).inside(budget)


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
        predicted = TABLE.of(policy)
        true = offset * LEAST + scale * predicted
        samples = true * (1 + noise * rng.normal(size=2))
        half = 2.5 * noise * true / np.sqrt(30)
        measured = float(samples.mean())
        rounds.append(
            Round(
                sums=sums(TABLE, policy),
                measured=measured,
                low=measured - half,
                high=measured + half,
            )
        )
        if rounds[-1].inside(budget):
            break
        answer = refit(TABLE, budget, rounds, least=sums(TABLE, CHEAPEST))
        table, limit = answer.table, answer.budget.limit
    assert rounds[-1].inside(budget)


def test_a_precision_table_keeps_its_entries() -> None:
    answer = refit(TABLE, Budget(metric="latency", limit=GREATEST), [exact(100.0, 150.0)])
    eight = Policy.uniform(SITES, Precision.parse("8/8"))
    raw = replace(answer.table, offset=0.0, scale=1.0, factors={})
    assert raw.of(eight) == TABLE.of(eight)
    assert answer.table.of(eight) > TABLE.of(eight)
