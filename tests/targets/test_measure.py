from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest

from mpqdeploy.core import Fingerprint, LatencyRecord, Protocol
from mpqdeploy.targets.devices import pinned
from mpqdeploy.targets.measure import (
    LEAST_SAMPLE_US,
    MOST_ROUNDS,
    _interruptions,
    at_clock_of,
    call_timer,
    measure,
    measure_together,
    quiet,
    repeats,
)

HERE = Fingerprint(cpu="test", features=(), cores=1, tvm="0", system="test")


class Clock:
    """A timer of runs that take `us` microseconds, read by a clock with `tick` resolution."""

    def __init__(self, us: float, *, tick: float = 0.0, noise: float = 0.0) -> None:
        self.us, self.tick, self.noise = us, tick, noise
        self.rng = np.random.default_rng(0)
        self.calls: list[tuple[int, int]] = []

    def __call__(self, inner: int, samples: int) -> Sequence[float]:
        self.calls.append((inner, samples))
        return [self._sample(inner) for _ in range(samples)]

    def _sample(self, inner: int) -> float:
        total = self.us * inner * (1 + self.noise * self.rng.random())
        if self.tick:
            total = np.floor(total / self.tick) * self.tick
        return float(total / inner)


@pytest.mark.parametrize("us", [0.003, 1.7, 400.0, 25_000.0])
def test_one_sample_lasts_a_millisecond_or_one_run(us: float) -> None:
    inner = repeats(Clock(us), Protocol(inner=1))
    assert inner == 1 or LEAST_SAMPLE_US <= inner * us <= 2 * LEAST_SAMPLE_US
    assert inner * us >= LEAST_SAMPLE_US


def test_a_run_shorter_than_the_clocks_tick_is_repeated_more() -> None:
    record = measure(Clock(0.01, tick=50.0), Protocol(inner=1, samples=10), HERE)
    assert record.median_us == pytest.approx(0.01, rel=0.1)


def test_the_record_holds_what_was_done() -> None:
    clock = Clock(10.0)
    record = measure(clock, Protocol(warmup=3, samples=12, inner=1, threads=1), HERE)
    assert clock.calls[0] == (3, 1)
    assert clock.calls[-12:] == [(record.protocol.inner, 1)] * 12
    assert record.protocol.samples == len(record.samples_us) == 12
    assert quiet(record)


def test_inner_is_a_least_number() -> None:
    assert measure(Clock(5000.0), Protocol(inner=7), HERE).protocol.inner == 7


def test_an_unquiet_machine_is_sampled_more_and_its_interval_stays_wide() -> None:
    record = measure(Clock(2000.0, noise=3.0), Protocol(samples=10), HERE)
    assert record.protocol.samples == MOST_ROUNDS * 10
    assert not quiet(record)


def test_a_disturbance_that_passes_is_outvoted() -> None:
    class Disturbed(Clock):
        def __call__(self, inner: int, samples: int) -> Sequence[float]:
            self.noise = 3.0 if len(self.calls) < 12 else 0.0
            return super().__call__(inner, samples)

    record = measure(Disturbed(2000.0), Protocol(samples=10), HERE)
    assert 10 < record.protocol.samples < MOST_ROUNDS * 10
    assert quiet(record)
    assert record.median_us == pytest.approx(2000.0)


def test_things_measured_in_turn_share_a_disturbance() -> None:
    ticks = 0

    class Shared(Clock):
        """Half the time, everything takes twice as long."""

        def __call__(self, inner: int, samples: int) -> Sequence[float]:
            nonlocal ticks
            ticks += 1
            slow = 2.0 if ticks // 50 % 2 else 1.0
            return [sample * slow for sample in super().__call__(inner, samples)]

    clocks = {name: Shared(us) for name, us in (("a", 2000.0), ("b", 2200.0), ("c", 2100.0))}
    records = measure_together(clocks, Protocol(samples=25), HERE)
    assert sorted(records, key=lambda name: records[name].median_us) == ["a", "c", "b"]
    assert {record.protocol.samples for record in records.values()} == {MOST_ROUNDS * 25}


def test_one_that_is_unquiet_has_all_sampled_on() -> None:
    clocks = {"calm": Clock(2000.0), "wild": Clock(2000.0, noise=3.0)}
    records = measure_together(clocks, Protocol(samples=10), HERE)
    assert {record.protocol.samples for record in records.values()} == {MOST_ROUNDS * 10}
    few = measure_together(clocks, Protocol(samples=10), HERE, rounds=1)
    assert {record.protocol.samples for record in few.values()} == {10}


def test_a_call_is_timed_by_the_clock() -> None:
    timer = call_timer(lambda: time.sleep(0.002))
    record = measure(timer, Protocol(warmup=1, samples=3, inner=1), HERE)
    assert 2000.0 <= record.median_us < 20_000.0


def test_a_clock_that_slowed_down_cancels() -> None:
    """Timed beside the reference on a machine 1.5 times slower, a record reads as it did before."""
    protocol = Protocol(samples=20, inner=1)
    reference = measure(Clock(200.0, noise=0.02), protocol, HERE)
    slow = {"draft": Clock(1.5 * 150.0), "reference": Clock(1.5 * 200.0)}
    records = measure_together(slow, protocol, HERE)
    read = at_clock_of(records["draft"], records["reference"], reference)
    assert read.median_us == pytest.approx(0.75 * reference.median_us)
    assert read.protocol == records["draft"].protocol
    assert len(read.samples_us) == len(records["draft"].samples_us)


def test_a_disturbance_that_hits_neighbours_alike_cancels() -> None:
    drift = 1 + 0.5 * np.sin(np.arange(30))
    records = [
        LatencyRecord(samples_us=tuple(us * drift), protocol=Protocol(), fingerprint=HERE)
        for us in (150.0, 200.0)
    ]
    reference = measure(Clock(200.0), Protocol(), HERE)
    low, high = at_clock_of(records[0], records[1], reference).interval_us
    assert (low, high) == pytest.approx((150.0, 150.0))


def test_records_that_were_not_timed_in_turn_are_refused() -> None:
    one = measure(Clock(10.0), Protocol(samples=5), HERE)
    other = measure(Clock(10.0), Protocol(samples=7), HERE)
    with pytest.raises(ValueError, match="zip"):
        at_clock_of(one, other, one)


@pytest.mark.parametrize(("interrupted", "runs"), [(0, 3), (2, 9), (100, 18)])
def test_an_interrupted_sample_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, interrupted: int, runs: int
) -> None:
    """Three runs a sample; the first `interrupted` samples lose the processor."""
    calls: list[int] = []
    monkeypatch.setattr(
        "mpqdeploy.targets.measure._interruptions", lambda: min(len(calls) // 3, interrupted)
    )
    (sample,) = call_timer(lambda: calls.append(0))(3, 1)
    assert sample > 0
    assert len(calls) == runs


def test_the_system_counts_what_interrupts_a_busy_thread() -> None:
    """Two processes on one processor: one that spins is interrupted by the other."""
    before = _interruptions()
    with pinned(1):
        here = os.sched_getaffinity(0)
        rival = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import time; end = time.time() + 20\nwhile time.time() < end: 0",
            ],
            preexec_fn=lambda: os.sched_setaffinity(0, here),
        )
        try:
            deadline = time.monotonic() + 10
            while _interruptions() == before and time.monotonic() < deadline:
                pass
        finally:
            rival.kill()
            rival.wait()
    assert _interruptions() > before
