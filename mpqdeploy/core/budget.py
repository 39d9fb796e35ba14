"""`Budget`: an upper limit on one metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["latency", "bytes", "bops"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`limit` is in the metric's own unit: microseconds, bytes or BOPs."""

    metric: Metric
    limit: float

    def holds(self, cost: float) -> bool:
        return cost <= self.limit
