from __future__ import annotations

import pytest
import torch

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.search.barrier import UNIT
from mpqdeploy.search.cost import ExpectedCosts
from tests.search.spaces import all_tables, make_candidates, make_sites

SITES = make_sites(5)
CANDIDATES = make_candidates(SITES)


def corrected_tables() -> dict[str, CostTable]:
    tables = all_tables(SITES)
    latency = tables["latency"]
    tables["latency"] = CostTable(
        metric="latency", unit="us", entries=latency.entries, offset=12.5, scale=1.3
    )
    return tables


def costs() -> ExpectedCosts:
    budgets = [Budget(metric="latency", limit=80.0), Budget(metric="bops", limit=2e7)]
    return ExpectedCosts(corrected_tables(), budgets, CANDIDATES, dtype=torch.float64)


def probabilities() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        site: torch.softmax(
            torch.randn(len(choices), generator=generator, dtype=torch.float64), 0
        ).requires_grad_()
        for site, choices in CANDIDATES.items()
    }


def test_agrees_with_the_tables_own_expectation_offset_included() -> None:
    chances = probabilities()
    expected = costs()
    units = expected.in_units(expected(chances))
    for metric in ("latency", "bops"):
        reference = corrected_tables()[metric].expected(chances, CANDIDATES).item()
        assert units[metric] == pytest.approx(reference, rel=1e-12)


def test_the_range_is_mapped_to_the_unit() -> None:
    expected = costs()
    for pick, end in ((min, 0.0), (max, UNIT)):
        for row, metric in enumerate(("latency", "bops")):
            table = corrected_tables()[metric]
            hot = {}
            for site, choices in CANDIDATES.items():
                vector = table.vector(site, choices)
                index = list(vector).index(pick(vector))
                hot[site] = torch.nn.functional.one_hot(torch.tensor(index), len(choices)).double()
            assert float(expected(hot)[row]) == pytest.approx(end, abs=1e-9)


def test_gradient_is_the_normalised_table() -> None:
    chances = probabilities()
    costs()(chances)[0].backward()
    table = corrected_tables()["latency"]
    low, high = table.bounds(CANDIDATES)
    for site, choices in CANDIDATES.items():
        reference = torch.tensor(table.vector(site, choices)) * UNIT / (high - low)
        torch.testing.assert_close(chances[site].grad, reference)


def test_a_metric_without_a_choice_is_not_free() -> None:
    only = make_candidates(SITES, [SITES[0].pinned] if SITES[0].pinned else [])
    expected = ExpectedCosts(all_tables(SITES), [Budget(metric="bytes", limit=1e6)], only)
    assert expected.free.tolist() == [False]
    ones = {site: torch.ones(1) for site in only}
    table = all_tables(SITES)["bytes"]
    assert expected.in_units(expected(ones))["bytes"] == pytest.approx(table.bounds(only)[0])
