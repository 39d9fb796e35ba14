"""`measure`: one timing protocol for a single kernel and for a whole compiled network."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mpqdeploy.core import Fingerprint, LatencyRecord, Protocol
from mpqdeploy.targets.devices import Device, pinned

Timer = Callable[[int, int], Sequence[float]]
"""`timer(inner, samples)`: `samples` latencies in microseconds, each a mean of `inner` runs."""

LEAST_SAMPLE_US = 1000.0  # one sample lasts at least this, so that the clock's own cost vanishes
QUIET = 0.1  # widest 95% interval of the median, relative to the median, of a quiet machine
MOST_ROUNDS = 4  # an unquiet machine is sampled up to this many times the samples asked for
MOST_INNER = 1 << 24
RETAKES = 5


def measure(timer: Timer, protocol: Protocol, fingerprint: Fingerprint) -> LatencyRecord:
    """Warm up, choose how often a sample repeats the run, and sample until the interval is narrow.

    `protocol.inner` and `protocol.samples` are least numbers; the record's protocol holds what was
    done. On a machine that stays unquiet the samples run out first: the record's interval then is
    as wide as it was measured, and `quiet(record)` is false.
    """
    return measure_together({"": timer}, protocol, fingerprint)[""]


def measure_together(
    timers: Mapping[str, Timer],
    protocol: Protocol,
    fingerprint: Fingerprint,
    *,
    rounds: int = MOST_ROUNDS,
    least_us: float = LEAST_SAMPLE_US,
) -> dict[str, LatencyRecord]:
    """`measure` for things to be compared: one sample of each in turn, A B C, A B C, ...

    What disturbs the machine for a while, a busy sibling core above all, then falls on all of
    them alike, and their order stays right. As long as one is unquiet, all are sampled on;
    `rounds` bounds that. A sample lasts at least `least_us`.
    """
    inner = {name: repeats(timer, protocol, least_us) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    records: dict[str, LatencyRecord] = {}
    for _ in range(rounds):
        for _ in range(protocol.samples):
            for name, timer in timers.items():
                samples[name] += timer(inner[name], 1)
        for name in timers:
            done = replace(protocol, inner=inner[name], samples=len(samples[name]))
            records[name] = LatencyRecord(
                samples_us=tuple(samples[name]), protocol=done, fingerprint=fingerprint
            )
        if all(quiet(record) for record in records.values()):
            break
    return records


def at_clock_of(
    record: LatencyRecord, beside: LatencyRecord, reference: LatencyRecord
) -> LatencyRecord:
    """`record` as it would have read when `reference` was taken.

    `beside` is the reference network again, timed in turn with `record`. Each sample is divided by
    its neighbour and multiplied by the reference's median: what the machine's clock did in between
    leaves both alike and cancels, so records of different minutes can be compared [o]. Raises
    `ValueError` where the two were not timed in turn.
    """
    pairs = zip(record.samples_us, beside.samples_us, strict=True)
    samples = tuple(own / other * reference.median_us for own, other in pairs)
    return replace(record, samples_us=samples)


def repeats(timer: Timer, protocol: Protocol, least_us: float = LEAST_SAMPLE_US) -> int:
    """Warm up, then the runs per sample so that one lasts `least_us`."""
    if protocol.warmup:
        timer(protocol.warmup, 1)
    inner = max(protocol.inner, 1)
    while inner < MOST_INNER:
        took = min(timer(inner, 1)) * inner
        if took >= least_us:
            break
        # A run too short for the clock reads 0: grow by a bounded factor until it does not.
        factor = min(1.1 * least_us / took, 100.0) if took > 0 else 100.0
        inner = min(math.ceil(inner * factor), MOST_INNER)
    return inner


def quiet(record: LatencyRecord) -> bool:
    """Whether the median's 95% interval is within `QUIET` of the median."""
    low, high = record.interval_us
    return high - low <= QUIET * record.median_us


def device_timer(device: Device, module: Any, function: str, args: Sequence[Any]) -> Timer:
    """Times a compiled function where it runs."""

    def timer(inner: int, samples: int) -> Sequence[float]:
        return device.time(module, function, args, inner=inner, samples=samples)

    return timer


def call_timer(run: Callable[[], object], *, threads: int = 1) -> Timer:
    """Times anything callable in this process, a whole network for instance.

    The call's own Python overhead is part of what is timed, as it is of what a user waits for.
    """

    def timer(inner: int, samples: int) -> Sequence[float]:
        with pinned(threads):
            return [_sample(run, inner) for _ in range(samples)]

    return timer


def _sample(run: Callable[[], object], inner: int) -> float:
    """Mean microseconds of `inner` runs in a row that no other process interrupted.

    On a busy machine the system takes the processor away every few milliseconds, and what is timed
    in turn can be hit unevenly: one always early in its time slice, the other always at its end. A
    sample that was interrupted is therefore taken again, up to `RETAKES` times [o].
    """
    took = 0.0
    for _ in range(1 + RETAKES):
        before = _interruptions()
        start = time.perf_counter_ns()
        for _ in range(inner):
            run()
        took = (time.perf_counter_ns() - start) / inner / 1000.0
        if _interruptions() == before:
            break
    return took


def _interruptions() -> int:
    """How often this thread has lost its processor to another; 0 where the system is silent."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
