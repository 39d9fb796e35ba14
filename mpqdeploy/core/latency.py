"""`LatencyRecord`: a measurement with the protocol and the machine that it was made on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a latency is taken: each sample is the mean of `inner` runs, after `warmup` runs."""

    warmup: int = 10
    samples: int = 30
    inner: int = 10
    threads: int = 1
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The machine and the software that a latency holds for."""

    cpu: str
    features: tuple[str, ...]
    cores: int
    tvm: str
    system: str


@dataclass(frozen=True, kw_only=True)
class LatencyRecord:
    """Raw samples in microseconds; every summary below is derived from them."""

    samples_us: tuple[float, ...]
    protocol: Protocol
    fingerprint: Fingerprint

    @property
    def median_us(self) -> float:
        return float(np.median(self.samples_us))

    @property
    def p90_us(self) -> float:
        return float(np.percentile(self.samples_us, 90))

    @property
    def interval_us(self) -> tuple[float, float]:
        """95% confidence interval of the median."""
        return median_interval(self.samples_us)

    def followed_by(self, later: LatencyRecord) -> LatencyRecord:
        """This record's samples, then those of a later one, whose protocol it takes."""
        samples = self.samples_us + later.samples_us
        return replace(
            later, samples_us=samples, protocol=replace(later.protocol, samples=len(samples))
        )

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval_us
        summary = {"median_us": self.median_us, "p90_us": self.p90_us, "interval_us": [low, high]}
        return {**asdict(self), "samples_us": list(self.samples_us), **summary}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatencyRecord:
        fingerprint = dict(data["fingerprint"])
        fingerprint["features"] = tuple(fingerprint["features"])
        return cls(
            samples_us=_floats(data["samples_us"]),
            protocol=Protocol(**data["protocol"]),
            fingerprint=Fingerprint(**fingerprint),
        )


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """95% confidence interval of the median, from order statistics.

    The ranks are those of the sign test's normal approximation, n/2 +- 0.98 sqrt(n): no law is
    assumed for the samples, which are skewed by interrupts [o].
    """
    ordered = sorted(samples)
    count = len(ordered)
    half = 0.98 * np.sqrt(count)
    low = max(int(np.floor(count / 2 - half)), 0)
    high = min(int(np.ceil(count / 2 + half)), count - 1)
    return ordered[low], ordered[high]


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
