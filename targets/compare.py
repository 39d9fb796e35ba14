"""`measure_together`: several peers timed in turn, so that a drifting clock hits all alike."""

from __future__ import annotations

from collections.abc import Mapping

from mpqdeploy.core import Fingerprint, LatencyRecord, Protocol
from mpqdeploy.targets.measure import MOST_ROUNDS, Timer, quiet, repeats


def measure_together(
    timers: Mapping[str, Timer], protocol: Protocol, fingerprint: Fingerprint
) -> dict[str, LatencyRecord]:
    """One record a peer. Samples alternate: A B C, A B C, ... after everybody has warmed up.

    As long as one peer's interval is not narrow, all are sampled on, up to the same bound as a
    single measurement's.
    """
    inner = {name: repeats(timer, protocol) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    records: dict[str, LatencyRecord] = {}
    for _ in range(MOST_ROUNDS):
        for _ in range(protocol.samples):
            for name, timer in timers.items():
                samples[name] += timer(inner[name], 1)
        records = {
            name: _record(samples[name], inner[name], protocol, fingerprint) for name in timers
        }
        if all(quiet(record) for record in records.values()):
            break
    return records


def _record(
    samples: list[float], inner: int, protocol: Protocol, fingerprint: Fingerprint
) -> LatencyRecord:
    done = Protocol(
        warmup=protocol.warmup,
        samples=len(samples),
        inner=inner,
        threads=protocol.threads,
        batch=protocol.batch,
    )
    return LatencyRecord(samples_us=tuple(samples), protocol=done, fingerprint=fingerprint)
