"""A latency budget against the smallest networks. The clock is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import Budget, BudgetError, Fingerprint, LatencyRecord, Policy, Protocol
from mpqdeploy.run_folder import RunFolder
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.steps import fastest as module
from mpqdeploy.steps.context import Context, prepare
from mpqdeploy.steps.draft import Reference
from mpqdeploy.steps.fastest import check_latency
from mpqdeploy.steps.study import networks_of
from mpqdeploy.ui import Ui

MACHINE = Fingerprint(cpu="c", features=(), cores=1, tvm="t", system="s")
# By weight bits: the narrowest is not the fastest.
TIMES = {8: 5.0, 4: 4.0, 2: 4.5}


def record(median: float) -> LatencyRecord:
    samples = (median, median, median)
    return LatencyRecord(samples_us=samples, protocol=Protocol(), fingerprint=MACHINE)


class Clock:
    def __init__(self) -> None:
        self.labels: list[str] = []

    def __call__(
        self, context: Context, label: str, policy: Policy, against: Reference
    ) -> LatencyRecord:
        self.labels.append(label)
        free = next(site.name for site in context.sites if site.pinned is None)
        return record(TIMES[policy[free].weight_bits])


@pytest.fixture
def context(tmp_path: Path) -> Context:
    values = {
        "model": {"name": "mobile_digits"},
        "data": {"name": "digits"},
        "precisions": ["8/8", "4/4", "2/2"],
        "search": {"engine": "bomp-nas"},
    }
    return prepare(Config.read(values, "test"), RunFolder(tmp_path / "run"), Ui(quiet=True))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time_draft", made)
    return made


def check(context: Context, *budgets: Budget) -> None:
    networks: Networks = networks_of(context)
    check_latency(context, networks, Reference(record=record(9.0), library=Path("r.so")), budgets)


def test_a_wide_budget_takes_one_draft_and_no_budget_none(context: Context, clock: Clock) -> None:
    check(context, Budget(metric="bytes", limit=1.0))
    assert clock.labels == []
    check(context, Budget(metric="latency", limit=5.0))
    assert clock.labels == ["smallest at 8/8"]


def test_every_precision_is_tried_before_a_budget_is_refused(
    context: Context, clock: Clock
) -> None:
    check(context, Budget(metric="latency", limit=4.0))
    assert clock.labels[-1] == "smallest at 4/4"
    # A network of several precisions may be a little faster than those of one.
    check(context, Budget(metric="latency", limit=3.7))
    said = r"latency budget of 3.5 us .* takes 4 us at 4/4, its fastest precision"
    with pytest.raises(BudgetError, match=said):
        check(context, Budget(metric="latency", limit=3.5))
