"""One number for a network: the scalarised score, and how far it is over each budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mpqdeploy.core import Budget, ConfigError, Metric


@dataclass(frozen=True, kw_only=True)
class Score:
    """acc/acc_ref - w * log10(cost)/log10(cost_ref) [o], larger is better.

    That the paper has one score of accuracy and log(size), each against a reference that the user
    gives, is [r]; this formula is ours. `cost_reference` is in the metric's own unit and above 1,
    where its logarithm is positive. Raises `ConfigError` for a reference that cannot divide.
    """

    metric: Metric
    accuracy_reference: float
    cost_reference: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.accuracy_reference > 0:
            raise ConfigError(
                f"the score's accuracy reference is {self.accuracy_reference}.",
                hint="Give one above 0, such as the float network's accuracy.",
            )
        if not self.cost_reference > 1:
            raise ConfigError(
                f"the score's cost reference is {self.cost_reference}.",
                hint=f"Give one above 1 in the unit of {self.metric}.",
            )

    def of(self, accuracy: float, cost: float) -> float:
        """The score of a network; `cost` > 0 in the metric's unit."""
        relative = math.log10(cost) / math.log10(self.cost_reference)
        return accuracy / self.accuracy_reference - self.weight * relative

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def violations(costs: Mapping[str, float], budgets: Sequence[Budget]) -> dict[str, float]:
    """cost / limit - 1 of every budget: at most 0 where it holds, 0.3 where it is 30 % over [o].

    The share, and not the difference, is what a model can compare over metrics whose units differ
    by ten orders of magnitude.
    """
    return {budget.metric: costs[budget.metric] / budget.limit - 1 for budget in budgets}


def excess(violated: Mapping[str, float]) -> float:
    """How far outside in all: the sum of the positive violations, 0 inside every budget."""
    return sum(max(0.0, value) for value in violated.values())
