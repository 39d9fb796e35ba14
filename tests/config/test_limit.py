from __future__ import annotations

import pytest

from mpqdeploy.config import Limit
from mpqdeploy.core import Budget, ConfigError


@pytest.mark.parametrize(
    ("metric", "text", "value"),
    [
        ("latency", "250us", 250.0),
        ("latency", "250 µs", 250.0),
        ("latency", "0.25ms", 250.0),
        ("latency", ".5 s", 500_000.0),
        ("latency", 250, 250.0),
        ("latency", 2.5e2, 250.0),
        ("bytes", "64KiB", 65536.0),
        ("bytes", "0.5MB", 500_000.0),
        ("bytes", 1000, 1000.0),
        ("bops", "1.2G", 1.2e9),
        ("bops", "800MBOPs", 8e8),
        ("bops", "3 bops", 3.0),
    ],
)
def test_absolute_limits_are_in_the_metrics_unit(metric: str, text: str, value: float) -> None:
    budget = Limit.parse(metric, text).resolve(uniform=7.0)  # type: ignore[arg-type]
    assert budget.metric == metric
    assert budget.limit == pytest.approx(value)


def test_a_percentage_is_of_the_uniform_network() -> None:
    limit = Limit.parse("latency", "75%")
    assert limit.relative
    assert limit.resolve(uniform=400.0) == Budget(metric="latency", limit=300.0)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("latency", "3KiB"),
        ("bytes", "3ms"),
        ("bops", "3us"),
        ("latency", "fast"),
        ("latency", "-3us"),
        ("latency", "0%"),
        ("latency", "3us 4us"),
        ("bytes", ""),
    ],
)
def test_what_is_no_limit_says_what_one_looks_like(metric: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"is not a limit on {metric}.*Write for example"):
        Limit.parse(metric, text)  # type: ignore[arg-type]
