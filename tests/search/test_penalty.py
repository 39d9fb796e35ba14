from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpqdeploy.core import ConfigError, CostTable, Policy, Precision
from mpqdeploy.search.engine import Epoch, Event, Note, Result, load_network
from mpqdeploy.search.penalty import ENOUGH, STRIDE, Penalty, Price, next_weight, used
from mpqdeploy.search.settings import BpNasSettings
from tests.search.problems import tiny_problem

SHORT = BpNasSettings(epochs=2, steps=2, batch_size=16, val_batches=1, theta_lr=0.5)


def test_the_price_does_not_know_the_budget() -> None:
    expected = torch.tensor([2.0, 5.0], requires_grad=True)
    paid = Price(weight=0.3)(expected, torch.tensor([1.0, 9.0]))
    assert torch.equal(paid, Price(weight=0.3)(expected, torch.tensor([0.0, 0.0])))
    paid.sum().backward()
    assert expected.grad is not None
    assert torch.allclose(expected.grad, torch.tensor([0.3, 0.3]))


@pytest.mark.parametrize(
    ("sides", "weight"),
    [
        ({1.0: False}, STRIDE),
        ({1.0: False, STRIDE: False}, STRIDE**2),
        ({1.0: True}, 1 / STRIDE),
        ({1.0: False, 4.0: True}, 2.0),
        ({1.0: False, 4.0: True, 2.0: True}, 2**0.5),
        # Searches are noisy: one that paid more may end outside again, and does not count.
        ({1.0: False, 4.0: True, 16.0: False}, 2.0),
    ],
)
def test_prices_are_bracketed_then_bisected(sides: dict[float, bool], weight: float) -> None:
    assert next_weight(sides) == pytest.approx(weight)


def test_used_is_one_at_the_budget_and_at_the_dearest_network() -> None:
    problem = tiny_problem(bops=0.5)
    cheapest = Policy(precisions={s: c[-1] for s, c in problem.candidates.items()})
    widest = Policy(precisions={s: c[0] for s, c in problem.candidates.items()})
    assert used(problem, cheapest) == pytest.approx(0.0)
    assert used(problem, widest) == pytest.approx(2.0)
    assert used(tiny_problem(bops=3.0), widest) == pytest.approx(1.0)
    assert used(tiny_problem(), widest) == 1.0


def search(folder: Path, *, searches: int, room: float) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    engine = Penalty(SHORT, weight=1e-4, searches=searches)
    return engine.search(tiny_problem(bops=room), folder, events.append), events


def test_it_counts_its_searches_and_shows_each_as_a_round(tmp_path: Path) -> None:
    result, events = search(tmp_path, searches=12, room=0.4)
    problem = tiny_problem(bops=0.4)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert result.searches > 1
    assert {epoch.round for epoch in epochs} == set(range(result.searches))
    assert len(epochs) == 2 * result.searches
    assert result.history == tuple(epochs)
    assert [e.epoch for e in epochs] == [1, 2] * result.searches
    assert epochs[0].limits == {"bops": problem.budgets[0].limit}
    assert result.moves == 0
    assert problem.inside(result.policy)
    inside = [e for e in epochs if e.epoch == 2 and e.argmax_cost["bops"] <= e.limits["bops"]]
    assert result.costs["bops"] == max(epoch.argmax_cost["bops"] for epoch in inside)
    assert used(problem, result.policy) >= ENOUGH or result.searches == 12


def test_where_no_search_ends_inside_the_last_is_repaired(tmp_path: Path) -> None:
    result, events = search(tmp_path, searches=1, room=0.02)
    problem = tiny_problem(bops=0.02)
    assert result.searches == 1
    assert result.moves > 0
    assert problem.inside(result.policy)
    assert any("ended inside" in event.message for event in events if isinstance(event, Note))
    load_network(problem.spec, result)


def test_another_budget_decides_over_the_searches_already_made(tmp_path: Path) -> None:
    problem = tiny_problem(latency=0.5)
    engine = Penalty(SHORT, weight=0.05, searches=3)
    first = engine.search(problem, tmp_path)
    table = problem.tables["latency"]
    corrected = CostTable(metric="latency", unit="us", entries=table.entries, offset=7.0, scale=1.3)
    limit = 7.0 + 1.3 * first.costs["latency"]
    budget = replace(problem.budgets[0], limit=limit)
    events: list[Event] = []
    again = engine.search(
        replace(problem, tables={"latency": corrected}, budgets=(budget,)), tmp_path, events.append
    )
    assert not events
    assert again.policy == first.policy
    assert again.searches == first.searches
    assert again.costs["latency"] == pytest.approx(limit)
    assert again.history[-1].expected["latency"] == pytest.approx(
        7.0 + 1.3 * first.history[-1].expected["latency"]
    )


def test_other_costs_of_the_precisions_are_searched_anew(tmp_path: Path) -> None:
    """A factor changes what is cheap next to what, which no weight of the old sum can say."""
    problem = tiny_problem(latency=0.5)
    engine = Penalty(SHORT, weight=0.05, searches=2)
    engine.search(problem, tmp_path)
    table = replace(problem.tables["latency"], factors={Precision.parse("4/4"): 1.2})
    events: list[Event] = []
    dearer = replace(problem, tables={"latency": table})
    again = engine.search(dearer, tmp_path, events.append)
    assert events
    assert dearer.inside(again.policy)
    assert again.history[-1].argmax_cost["latency"] <= table.bounds(problem.candidates)[1]


@pytest.mark.parametrize(("key", "value"), [("weight", 0.0), ("searches", 0)])
def test_settings_out_of_range_are_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"penalty_{key}"):
        Penalty(**{key: value})  # type: ignore[arg-type]
