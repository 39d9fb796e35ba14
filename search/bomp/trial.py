"""`Trial` and `Outcome`: what was tried and what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mpqdeploy.core import ModelError
from mpqdeploy.search.bomp.parameters import Point

State = Literal["complete", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A network's `accuracy` in [0, 1] and its `costs` by metric, each in the metric's unit.

    `seconds` is what the trial took. `details`: whatever else is to be kept, as JSON.
    """

    accuracy: float
    costs: Mapping[str, float]
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `ModelError` for a figure that is not finite, or a cost that is not above 0."""
        if not math.isfinite(self.accuracy):
            raise ModelError(f"the trial's accuracy is {self.accuracy}.")
        for metric, cost in self.costs.items():
            if not (math.isfinite(cost) and cost > 0):
                raise ModelError(f"the trial's {metric} is {cost}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network of a study. `number` counts from 0 and has no gaps.

    `outcome` is there where it is complete, `reason` where it failed. `violations` is
    cost / limit - 1 per budget. `feasible`: complete and inside every budget.
    """

    number: int
    state: State
    point: Point
    outcome: Outcome | None = None
    reason: str | None = None
    violations: Mapping[str, float] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        return self.state == "complete" and all(over <= 0 for over in self.violations.values())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        outcome = data["outcome"]
        return cls(**{**data, "outcome": Outcome.from_json(outcome) if outcome else None})
