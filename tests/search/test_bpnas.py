from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpqdeploy.core import CostTable
from mpqdeploy.core.files import read_json
from mpqdeploy.nn.training import TrainingError
from mpqdeploy.search.bilevel import Bilevel
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.engine import Epoch, Event, Note
from mpqdeploy.search.settings import BpNasSettings
from tests.search.problems import tiny_problem

SHORT = BpNasSettings(epochs=3, refit_epochs=2, steps=3, batch_size=16, val_batches=1)


def test_starts_inside_and_ends_one_hot_inside(tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.3, bytes=0.5)
    events: list[Event] = []
    result = BpNas(SHORT).search(problem, tmp_path, events.append)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert tuple(epochs) == result.history
    assert epochs[0].violation == {"bops": 0.0, "bytes": 0.0}
    assert min(epochs[-1].max_probability.values()) > 0.99
    assert problem.inside(result.policy)
    best = read_json(tmp_path / "best.json")
    assert best["policy"] == result.policy.to_json()


def test_dominated_precisions_are_dropped_and_said(tmp_path: Path) -> None:
    problem = tiny_problem(latency=0.6)
    flat = {
        site: {p: 5.0 + p.weight_bits * (p.weight_bits != 4) for p in choices}
        for site, choices in problem.tables["latency"].entries.items()
    }
    slow = {
        site: {p: 99.0 if str(p) == "4/8" else cost for p, cost in costs.items()}
        for site, costs in flat.items()
    }
    table = CostTable(metric="latency", unit="us", entries=slow)
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    budget = replace(problem.budgets[0], limit=1.2 * table.bounds(problem.candidates)[0])
    problem = replace(problem, tables={"latency": table}, budgets=(budget,))
    result = BpNas(SHORT).search(problem, tmp_path, listen)
    assert any("conv2: 4/8 dropped, 8/8" in note for note in notes)
    assert "4/8" not in {str(p) for p in result.probabilities["conv2"]}


def test_a_budget_changed_midway_is_met_in_the_end(tmp_path: Path) -> None:
    problem = tiny_problem(bops=0.6)

    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Epoch):
            raise StopError

    with pytest.raises(StopError):
        BpNas(SHORT).search(problem, tmp_path, stop)
    tighter = tiny_problem(bops=0.1)
    assert tighter.inside(BpNas(SHORT).search(tighter, tmp_path).policy)


def test_divergence_says_where_and_leaves_the_last_good_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = tiny_problem(bops=0.6)
    whole = BpNas(SHORT).search(problem, tmp_path / "whole")
    step, count = Bilevel.weight_step, itertools.count(1)

    def broken(self: Bilevel, images: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        # The second step of the second epoch.
        return step(self, images * (float("nan") if next(count) == 5 else 1.0), labels, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", broken)
        with pytest.raises(TrainingError, match="weights' loss is not finite at step 2 of epoch 2"):
            BpNas(SHORT).search(problem, tmp_path / "broken")
    state = torch.load(tmp_path / "broken" / "state.pt", weights_only=True)
    assert state["done"] == 1
    assert all(bool(tensor.isfinite().all()) for tensor in state["network"]["tensors"].values())
    assert BpNas(SHORT).search(problem, tmp_path / "broken").policy == whole.policy


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss may be followed by a step to infinity, which the next loss would tell of."""
    step, count = Bilevel.weight_step, itertools.count(1)

    def overflowing(
        self: Bilevel, images: torch.Tensor, labels: torch.Tensor, rate: float
    ) -> float:
        loss = step(self, images, labels, rate)
        if next(count) == 9:  # the last one of the last epoch, which trains weights alone
            with torch.no_grad():
                self.layers["conv3"].weight.fill_(float("inf"))
        return loss

    monkeypatch.setattr(Bilevel, "weight_step", overflowing)
    with pytest.raises(TrainingError, match="a weight is not finite at step 3 of epoch 3"):
        BpNas(SHORT).search(tiny_problem(bops=0.6), tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"] == 2
