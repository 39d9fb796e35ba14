from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mpqdeploy.core import Fingerprint, LatencyRecord, Protocol

HERE = Fingerprint(cpu="cpu", features=("avx2", "fma"), cores=2, tvm="0.27", system="Linux")
SAMPLES = st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=60)


def record(samples: list[float]) -> LatencyRecord:
    return LatencyRecord(samples_us=tuple(samples), protocol=Protocol(threads=2), fingerprint=HERE)


@given(SAMPLES)
def test_a_record_survives_json(samples: list[float]) -> None:
    before = record(samples)
    data = json.loads(json.dumps(before.to_json()))
    assert LatencyRecord.from_json(data) == before
    assert data["interval_us"] == list(before.interval_us)


def test_an_unknown_key_is_refused() -> None:
    data = record([1.0]).to_json()
    data["protocol"]["repeats"] = 3
    with pytest.raises(TypeError, match="repeats"):
        LatencyRecord.from_json(data)


@given(SAMPLES)
def test_summaries_are_those_of_numpy(samples: list[float]) -> None:
    found = record(samples)
    assert found.median_us == np.median(samples)
    assert found.p90_us == np.percentile(samples, 90)
    low, high = found.interval_us
    assert min(samples) <= low <= found.median_us <= high <= max(samples)
    assert {low, high} <= set(samples)


def ranks(count: int) -> tuple[int, int]:
    """Which order statistics the interval takes: those of the numbers 0, 1, 2 ..."""
    low, high = record([float(number) for number in range(count)]).interval_us
    return int(low), int(high)


@pytest.mark.parametrize("count", [5, 7, 10, 15, 20, 30, 31, 60, 120, 500])
def test_the_ranks_cover_what_the_binomial_law_says(count: int) -> None:
    """P(x_(l) <= median <= x_(u)) = P(l < B <= u) with B ~ Binomial(n, 1/2), ranks from 0."""
    low, high = ranks(count)
    covered = binom.cdf(high, count, 0.5) - binom.cdf(low, count, 0.5)
    if count >= 10:
        assert 0.94 <= covered < 0.995  # ranks are whole, so it cannot be exact
    else:  # so few samples cannot do better than their whole range
        assert (low, high) == (0, count - 1)


@pytest.mark.parametrize("law", ["lognormal", "exponential", "uniform"])
def test_the_interval_covers_the_median_of_any_law(law: str) -> None:
    rng = np.random.default_rng(7)
    draws = {
        "lognormal": (lambda: rng.lognormal(0, 1, 30), 1.0),
        "exponential": (lambda: rng.exponential(1, 30), np.log(2)),
        "uniform": (lambda: rng.uniform(0, 1, 30), 0.5),
    }
    draw, median = draws[law]
    intervals = [record(draw().tolist()).interval_us for _ in range(2000)]
    covered = np.mean([low <= median <= high for low, high in intervals])
    assert covered >= 0.94  # 95 % but for four deviations of the simulation's own


def test_an_outlier_does_not_move_the_interval() -> None:
    quiet = [10.0 + 0.01 * number for number in range(30)]
    assert record([*quiet[:-1], 1e6]).interval_us == record(quiet).interval_us
