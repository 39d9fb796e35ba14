"""The loop of searching, asking the device and correcting, with a device that is a formula."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mpqdeploy.core import (
    Budget,
    BudgetError,
    CostTable,
    LatencyRecord,
    Policy,
    Protocol,
    parse_precisions,
)
from mpqdeploy.nn.task import CLASSIFICATION
from mpqdeploy.nn.training import ALONE
from mpqdeploy.results import Round
from mpqdeploy.search.engine import Epoch, OnEvent, Problem, Result
from mpqdeploy.steps import search as loop
from mpqdeploy.steps.anchors import Anchors
from mpqdeploy.steps.draft import Reference, draft_round
from mpqdeploy.ui import Ui
from tests.report.summaries import MACHINE
from tests.tracking.epochs import epoch

PRECISIONS = parse_precisions(("8/8", "4/4", "2/2"))
SITES = ("a", "b", "c")
COSTS = dict(zip(PRECISIONS, (8.0, 5.0, 3.0), strict=True))
TABLE = CostTable(metric="latency", unit="us", entries=dict.fromkeys(SITES, COSTS))
CANDIDATES = dict.fromkeys(SITES, PRECISIONS)
POLICIES = [
    Policy(precisions=dict(zip(SITES, choice, strict=True)))
    for choice in itertools.product(PRECISIONS, repeat=len(SITES))
]

Device = Callable[[Policy], float]


def affine(policy: Policy) -> float:
    """A network is an offset and more than its kernels."""
    return 4.0 + 1.3 * TABLE.of(policy)


def time_of(device: Device, policy: Policy) -> LatencyRecord:
    samples = device(policy) * np.linspace(0.999, 1.001, 30)
    return LatencyRecord(
        samples_us=tuple(samples.tolist()), protocol=Protocol(), fingerprint=MACHINE
    )


class Widest:
    """The engine in a line: the dearest policy that is inside, as predicted."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def search(self, problem: Problem, folder: Path, on_event: OnEvent) -> Result:
        self.problems.append(problem)
        on_event(epoch())
        inside = [policy for policy in POLICIES if problem.inside(policy)]
        policy = max(inside, key=problem.tables["latency"].of)
        return Result(
            policy=policy,
            costs=problem.costs(policy),
            moves=0,
            upgrades=0,
            probabilities={},
            history=(),
            weights=folder / "weights.pt",
        )


class Bench:
    """A loop over a folder; `asked` are the policies that the device was asked about."""

    def __init__(
        self, folder: Path, device: Device, monkeypatch: pytest.MonkeyPatch, rounds: int = 4
    ) -> None:
        self.folder, self.device = folder, device
        self.asked: list[Policy] = []
        self.shown: list[Epoch] = []
        self.engine = Widest()
        self.context: Any = SimpleNamespace(
            config=SimpleNamespace(refit=SimpleNamespace(rounds=rounds), seed=0, device="cpu"),
            world=ALONE,
            counted={},
            candidates=CANDIDATES,
            spec=None,
            task=CLASSIFICATION,
            dataset=None,
            folder=SimpleNamespace(path=folder, log=lambda message: None),
            ui=Ui(quiet=True),
        )
        monkeypatch.setattr(loop, "Searching", SimpleNamespace(lead=self.lead))
        monkeypatch.setattr(loop, "time_draft", self.time)

    def lead(self, context: object, problem: Problem, folder: Path, on_event: OnEvent) -> Result:
        return self.engine.search(problem, folder, on_event)

    def time(
        self, context: object, label: str, policy: Policy, against: Reference
    ) -> LatencyRecord:
        self.asked.append(policy)
        return time_of(self.device, policy)

    def run(self, limit: float | None) -> dict[str, Any]:
        anchors = [POLICIES[0], POLICIES[-1]]
        known = tuple(
            draft_round(i, f"anchor {i}", p, TABLE, time_of(self.device, p), limit=0.0, moves=0)
            for i, p in enumerate(anchors)
        )
        budgets = () if limit is None else (Budget(metric="latency", limit=limit),)
        against = Reference(record=known[0].measured, library=self.folder / "reference.so")
        found = Anchors(rounds=known, budgets=budgets, reference=against)
        return loop._Loop(self.context, TABLE, found, (), self.folder, self.shown.append).run()


def rounds_of(result: Mapping[str, Any]) -> list[Round]:
    return [Round.from_json(data) for data in result["rounds"]]


def test_anchors_alone_put_the_first_round_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, affine, monkeypatch)
    result = bench.run(25.0)
    (turn,) = rounds_of(result)
    assert result["inside"]
    assert turn.measured.interval_us[1] <= 25.0
    assert turn.predicted_us == pytest.approx(affine(turn.policy), rel=0.03)
    assert Policy.from_json(result["policy"]) == turn.policy == bench.asked[-1]
    # Nothing dearer would have fitted into what the search was given.
    assert turn.measured.median_us > 20.0


def test_a_surprise_is_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies that mix precisions cost extra, which no anchor shows."""

    def device(policy: Policy) -> float:
        return affine(policy) + 3.0 * (len(set(policy.precisions.values())) - 1)

    bench = Bench(tmp_path, device, monkeypatch)
    result = bench.run(25.0)
    turns = rounds_of(result)
    assert len(turns) > 1
    assert not turns[0].measured.interval_us[1] <= 25.0
    assert result["inside"]
    assert turns[-1].measured.interval_us[1] <= 25.0
    limits = [turn.search_limit_us for turn in turns]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < limits[0] < 25.0
    errors = [abs(turn.predicted_us / turn.measured.median_us - 1) for turn in turns]
    assert errors[-1] < errors[0]


def test_where_no_round_is_inside_the_nearest_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def device(policy: Policy) -> float:
        return (
            affine(policy) if policy in (POLICIES[0], POLICIES[-1]) else 26.0 + noise[policy["a"]]
        )

    noise = dict(zip(PRECISIONS, (2.0, 1.0, 3.0), strict=True))
    bench = Bench(tmp_path, device, monkeypatch, rounds=3)
    result = bench.run(25.0)
    turns = rounds_of(result)
    assert not result["inside"]
    assert len(turns) == 3
    nearest = min(turns, key=lambda turn: turn.measured.median_us)
    assert Policy.from_json(result["policy"]) == nearest.policy
    assert len(bench.asked) == 3  # the nearest was not measured again


def test_an_unreachable_latency_names_what_is_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = affine(POLICIES[-1])
    bench = Bench(tmp_path, affine, monkeypatch)
    with pytest.raises(BudgetError, match=r"least reachable is about 1[56]\.\d us") as caught:
        bench.run(0.8 * least)
    assert "Raise the budget" in caught.value.hint
    assert bench.asked == []


def test_what_was_measured_before_a_kill_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def device(policy: Policy) -> float:
        return affine(policy) + 3.0 * (len(set(policy.precisions.values())) - 1)

    whole = Bench(tmp_path / "whole", device, monkeypatch)
    expected = whole.run(25.0)
    first = Bench(tmp_path / "killed", device, monkeypatch)
    ask = first.time

    def killed(context: object, label: str, policy: Policy, against: Reference) -> LatencyRecord:
        if first.asked:
            raise KeyboardInterrupt
        return ask(context, label, policy, against)

    monkeypatch.setattr(loop, "time_draft", killed)
    with pytest.raises(KeyboardInterrupt):
        first.run(25.0)
    second = Bench(tmp_path / "killed", device, monkeypatch)
    assert second.run(25.0) == expected
    assert [*first.asked, *second.asked] == whole.asked


def test_without_a_latency_budget_one_round_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, affine, monkeypatch)
    result = bench.run(None)
    (turn,) = rounds_of(result)
    assert result["inside"]
    assert turn.search_limit_us == 0
    assert (turn.offset_us, turn.scale) == (0.0, 1.0)
    assert bench.engine.problems[0].tables["latency"] == TABLE
    assert bench.shown == [epoch()]
