"""What a run produced, as data: the rows of its table and the rounds of its loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mpqdeploy.core import Budget, LatencyRecord, Policy, Precision

SUMMARY = "summary.json"
"""Where a finished run has its summary."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network beside the others.

    `accuracy` is the task's score (top-1, mAP), in [0, 1] over the whole test set, of the very file
    that `latency` timed; `bytes` are the weights at their own width (float32: 4 bytes each).
    `epochs` says how long it was trained after the float network.
    """

    name: str
    runtime: str
    accuracy: float
    latency: LatencyRecord
    bytes: float
    bops: float
    epochs: float = 0.0
    policy: Policy | None = None

    def cost(self, metric: str) -> float:
        """The figure a budget on `metric` is held against; latency: the interval's upper end."""
        if metric == "latency":
            return self.latency.interval_us[1]
        return self.bytes if metric == "bytes" else self.bops

    def inside(self, budgets: tuple[Budget, ...]) -> bool:
        return all(budget.holds(self.cost(budget.metric)) for budget in budgets)

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "latency": self.latency.to_json(),
            "policy": self.policy.to_json() if self.policy else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        policy = data["policy"]
        return cls(
            **{
                **data,
                "latency": LatencyRecord.from_json(data["latency"]),
                "policy": Policy.from_json(policy) if policy else None,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn of the loop: what the table promised for a network, and what the device said."""

    index: int
    name: str
    predicted_us: float
    measured: LatencyRecord
    search_limit_us: float
    offset_us: float
    scale: float
    factors: Mapping[Precision, float]
    moves: int
    policy: Policy

    def to_json(self) -> dict[str, Any]:
        return {
            **{
                key: value
                for key, value in vars(self).items()
                if key not in ("factors", "measured", "policy")
            },
            "factors": {str(precision): value for precision, value in self.factors.items()},
            "measured": self.measured.to_json(),
            "policy": self.policy.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        return cls(
            **{
                **data,
                "factors": {Precision.parse(p): value for p, value in data["factors"].items()},
                "measured": LatencyRecord.from_json(data["measured"]),
                "policy": Policy.from_json(data["policy"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything the last table and the report show.

    `metric` is what the rows' accuracy is called.
    `pareto` are the bundles of the front beside `bundle`, where a search has a front.
    `budgets` are by the clock of the last measurement, `loop_budgets` by that of the rounds.
    """

    title: str
    budgets: tuple[Budget, ...]
    rows: tuple[Row, ...]
    rounds: tuple[Round, ...]
    bundle: str
    report: str
    loop_budgets: tuple[Budget, ...] = ()
    metric: str = "top-1"
    seconds: Mapping[str, float] = field(default_factory=dict)
    pareto: tuple[str, ...] = ()

    @property
    def searched(self) -> Row:
        return self.rows[-1]

    @property
    def holds(self) -> bool:
        return self.searched.inside(self.budgets)

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "holds": self.holds,
            "budgets": [asdict(budget) for budget in self.budgets],
            "rows": [row.to_json() for row in self.rows],
            "rounds": [turn.to_json() for turn in self.rounds],
            "bundle": self.bundle,
            "pareto": list(self.pareto),
            "report": self.report,
            "loop_budgets": [asdict(budget) for budget in self.loop_budgets],
            "metric": self.metric,
            "seconds": dict(self.seconds),
        }
