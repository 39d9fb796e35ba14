"""What a share of the uniform 8/8 network's latency means once all have been timed in turn."""

from __future__ import annotations

import pytest

from mpqdeploy.config.sections import BudgetSection
from mpqdeploy.core import Budget
from mpqdeploy.steps.measure import budgets_now
from tests.report.summaries import row

SHARES = (
    BudgetSection(metric="latency", limit="80%"),
    BudgetSection(metric="bytes", limit="50%"),
)
AT_THE_ANCHOR = (Budget(metric="latency", limit=80.0), Budget(metric="bytes", limit=1024.0))


def test_a_share_follows_the_8_8_network_of_the_same_turns() -> None:
    """The machine has become twice as slow since the anchors were timed."""
    rows = [row("uniform 8/8", us=200.0), row("searched", us=150.0)]
    latency, size = budgets_now(SHARES, AT_THE_ANCHOR, rows)
    assert latency.limit == pytest.approx(0.8 * rows[0].latency.median_us)
    assert rows[1].inside((latency,))
    assert not rows[1].inside(AT_THE_ANCHOR)
    assert size == AT_THE_ANCHOR[1]


def test_a_limit_in_microseconds_stays() -> None:
    sections = (BudgetSection(metric="latency", limit="80us"),)
    rows = [row("uniform 8/8", us=200.0), row("searched", us=150.0)]
    assert budgets_now(sections, AT_THE_ANCHOR[:1], rows) == AT_THE_ANCHOR[:1]


def test_without_the_8_8_network_the_anchor_counts() -> None:
    rows = [row("uniform 4/4", us=200.0), row("searched", us=150.0)]
    assert budgets_now(SHARES, AT_THE_ANCHOR, rows) == AT_THE_ANCHOR
