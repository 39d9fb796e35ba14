from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import (
    Budget,
    ConfigError,
    CostTable,
    Geometry,
    Policy,
    Precision,
    Site,
    bops_table,
    bytes_table,
    parse_precisions,
)

PRECISIONS = parse_precisions(("8/8", "4/8", "2/2", "1/1"))


@st.composite
def tables(draw: st.DrawFn) -> CostTable:
    names = draw(
        st.lists(
            st.sampled_from(["conv1", "layer1.0.conv1", "ä b", "fc"]),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    costs = st.floats(0, 1e6)
    entries = {name: {p: draw(costs) for p in PRECISIONS} for name in names}
    factors = draw(st.dictionaries(st.sampled_from(PRECISIONS), st.floats(0.1, 10)))
    return CostTable(
        metric="latency",
        unit="us",
        entries=entries,
        offset=draw(st.floats(-1e3, 1e3)),
        scale=draw(st.floats(0.01, 100)),
        factors=factors,
    )


@settings(max_examples=30, deadline=None)
@given(tables())
def test_a_table_survives_json(table: CostTable) -> None:
    assert CostTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_an_unknown_key_is_refused() -> None:
    data = CostTable(metric="bytes", unit="B", entries={}).to_json()
    with pytest.raises(TypeError, match="slope"):
        CostTable.from_json({**data, "slope": 1.0})


@settings(max_examples=50, deadline=None)
@given(tables(), st.integers(0, 999))
def test_the_expectation_at_one_hot_is_the_cost(table: CostTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen = {name: int(rng.integers(len(PRECISIONS))) for name in table.entries}
    policy = Policy(precisions={name: PRECISIONS[index] for name, index in chosen.items()})
    one_hot = {name: np.eye(len(PRECISIONS))[index] for name, index in chosen.items()}
    candidates = dict.fromkeys(table.entries, PRECISIONS)
    assert table.expected(one_hot, candidates) == pytest.approx(table.of(policy))


def test_the_expectation_is_the_mean_over_sampled_policies() -> None:
    entries = {"a": {PRECISIONS[0]: 4.0, PRECISIONS[1]: 1.0}, "b": {PRECISIONS[2]: 3.0}}
    factors = {PRECISIONS[1]: 1.5}
    table = CostTable(
        metric="latency", unit="us", entries=entries, offset=5.0, scale=2.0, factors=factors
    )
    candidates = {"a": PRECISIONS[:2], "b": PRECISIONS[2:3]}
    chances = {"a": np.array([0.25, 0.75]), "b": np.array([1.0])}
    by_hand = 5.0 + 2.0 * (0.25 * 4.0 + 0.75 * 1.5 * 1.0 + 3.0)
    assert table.expected(chances, candidates) == pytest.approx(by_hand)


def test_the_expectation_of_tensors_has_the_costs_as_its_gradient() -> None:
    costs = dict(zip(PRECISIONS, (4.0, 3.0, 2.0, 1.0), strict=True))
    table = CostTable(metric="bytes", unit="B", entries={"a": costs}, scale=1.5)
    chances = torch.full((4,), 0.25, requires_grad=True)
    table.expected({"a": chances}, {"a": PRECISIONS}).backward()
    assert chances.grad is not None
    np.testing.assert_allclose(chances.grad.numpy(), table.vector("a", PRECISIONS))


@settings(max_examples=30, deadline=None)
@given(tables())
def test_bounds_are_reached_and_not_passed(table: CostTable) -> None:
    candidates = dict.fromkeys(table.entries, PRECISIONS[:3])
    costs = [
        table.of(Policy(precisions=dict(zip(table.entries, choice, strict=True))))
        for choice in itertools.product(PRECISIONS[:3], repeat=len(table.entries))
    ]
    assert table.bounds(candidates) == pytest.approx((min(costs), max(costs)))


def test_a_missing_entry_is_named() -> None:
    table = CostTable(metric="latency", unit="us", entries={"conv1": {PRECISIONS[0]: 1.0}})
    with pytest.raises(ConfigError, match=r"latency table has no entry for site 'conv1' at 1/1"):
        table.cost("conv1", PRECISIONS[-1])
    with pytest.raises(ConfigError, match="'conv2'"):
        table.vector("conv2", PRECISIONS)


def test_counted_tables_by_hand() -> None:
    geometry = Geometry(
        op="conv", in_channels=4, out_channels=6, in_size=(5, 5), kernel=(3, 3), groups=2
    )
    pinned = Site(name="p", geometry=geometry, pinned=PRECISIONS[0])
    sites = [Site(name="a", geometry=geometry), pinned]
    weights, macs = 6 * 2 * 9, 6 * 2 * 9 * 9
    weight_bytes, operations = bytes_table(sites, PRECISIONS), bops_table(sites, PRECISIONS)
    four = Precision(weight_bits=4, act_bits=8)
    assert weight_bytes.cost("a", four) == weights / 2
    assert operations.cost("a", four) == macs * 32
    assert set(weight_bytes.entries["p"]) == set(operations.entries["p"]) == {PRECISIONS[0]}


def test_a_budget_holds_up_to_its_limit() -> None:
    budget = Budget(metric="bytes", limit=10.0)
    assert budget.holds(10.0)
    assert not budget.holds(10.000001)
    assert not budget.holds(float("nan"))
