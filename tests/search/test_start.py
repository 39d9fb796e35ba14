from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Budget, CostTable, Precision
from mpqdeploy.search.start import starting_logits
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(6)
CANDIDATES = make_candidates(SITES)
TABLES = all_tables(SITES)


def softmax(logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {s: np.exp(t - t.max()) / np.exp(t - t.max()).sum() for s, t in logits.items()}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["latency", "bytes", "bops"]), st.floats(0.01, 1.0))
def test_starts_below_nine_tenths_of_the_budget(metric: str, room: float) -> None:
    table = TABLES[metric]
    least, greatest = table.bounds(CANDIDATES)
    limit = least + room * (greatest - least)
    budget = Budget(metric=metric, limit=limit)  # type: ignore[arg-type]
    chances = softmax(starting_logits(TABLES, [budget], CANDIDATES))
    expected = float(table.expected(chances, CANDIDATES))
    assert expected <= max(0.9 * limit, (least + limit) / 2) * (1 + 1e-9)


def test_a_loose_budget_starts_uniform() -> None:
    budget = Budget(metric="bops", limit=TABLES["bops"].bounds(CANDIDATES)[1])
    for theta in starting_logits(TABLES, [budget], CANDIDATES).values():
        np.testing.assert_allclose(theta, 0.0, atol=1e-12)


def test_metrics_that_pull_apart_start_inside_both() -> None:
    small, fast, both = (Precision.parse(text) for text in ("1/8", "8/1", "2/2"))
    latency = {small: 9.0, fast: 1.0, both: 3.0}
    size = {small: 1.0, fast: 9.0, both: 3.0}
    names = [f"conv{i}" for i in range(4)]
    tables = {
        "latency": CostTable(metric="latency", unit="us", entries=dict.fromkeys(names, latency)),
        "bytes": CostTable(metric="bytes", unit="B", entries=dict.fromkeys(names, size)),
    }
    candidates = dict.fromkeys(names, (small, fast, both))
    budgets = [Budget(metric="latency", limit=14.0), Budget(metric="bytes", limit=14.0)]
    chances = softmax(starting_logits(tables, budgets, candidates))
    for metric in ("latency", "bytes"):
        assert float(tables[metric].expected(chances, candidates)) < 14.0


def test_logits_have_mean_zero() -> None:
    budget = Budget(metric="latency", limit=TABLES["latency"].bounds(CANDIDATES)[0] * 1.5)
    for theta in starting_logits(TABLES, [budget], CANDIDATES).values():
        assert float(theta.mean()) == pytest.approx(0.0, abs=1e-12)
