"""Soft barrier on an expected cost: almost nothing inside the budget, very large outside it.

Derivation. Costs are normalised first, x(C) = UNIT * (C - C_min) / (C_max - C_min), because the
double logarithm is not scale-free: with BOPs in units, log(B + 1 - E) is about 20 everywhere but
in the last few units before B. With the gap g = x(B) - x(E[C]), inside the budget (g > 0)

    double log   f(g) = -log(log(1 + g))    f' = -1 / ((1 + g) log(1 + g))           [r]
    plain log    f(g) = -log(g)             f' = -1 / g          (interior point)    [r]

f'' > 0 for both: f' of the double log is -1/h with h = (1 + g) log(1 + g) growing.

Neither is defined at g <= 0, where a search may start or be thrown by a step. The extension [o]
leaves the logarithm at g = d:

    d <= g        f(g)
    0 <= g < d    t(g) = f(d) + f'(d) (g - d)                 the tangent
    g < 0         t(g) + k g^2 / 2,   k = -f'(d) / d          the tangent and a quadratic

Value and slope agree at g = d (tangent) and at g = 0 (the quadratic has value and slope 0 there):
C1 everywhere. With that k the slope doubles for every d that the cost lies outside the budget. The
penalty is monotone in E[C] and convex everywhere, so a step never gains by leaving the domain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BarrierKind = Literal["double_log", "log"]

UNIT = 10.0
"""Length of the whole reachable range, cheapest to dearest network, after normalising [o].

At 10 the double log's slope is 0.09 half the range away from the budget, 1 at an eighth and 50 at
a five-hundredth: it only acts on what comes near, and the same weight serves every metric.
"""


def normalise(cost: Tensor, least: Tensor, greatest: Tensor) -> Tensor:
    """x(C) = UNIT * (C - least) / (greatest - least); any shape, budgets likewise.

    `greatest > least` is the caller's to ensure: a metric without any choice has no barrier.
    """
    return UNIT * (cost - least) / (greatest - least)


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """The penalty `weight * f(gap)` with its C1 extension.

    `weight` is the method's mu; `corner` the gap d, in normalised units, where the logarithm goes
    over into its tangent: 0.1 is a hundredth of the reachable range [o].
    """

    kind: BarrierKind = "double_log"
    weight: float = 0.1
    corner: float = 0.1

    def __call__(self, expected: Tensor, limit: Tensor) -> Tensor:
        """Penalty of each normalised cost, shape of `expected - limit`, finite everywhere."""
        gap = limit - expected
        value, slope = self._at_corner()
        # `where` differentiates both branches: the logarithm must not see a gap below the corner.
        inside = self._log(gap.clamp(min=self.corner))
        tangent = value + slope * (gap - self.corner)
        outside = tangent - slope / self.corner * gap.clamp(max=0.0) ** 2 / 2
        return self.weight * torch.where(gap >= self.corner, inside, outside)

    def _log(self, gap: Tensor) -> Tensor:
        if self.kind == "double_log":
            return -torch.log(torch.log1p(gap))
        return -torch.log(gap)

    def _at_corner(self) -> tuple[float, float]:
        """f(d) and f'(d), from the formulas above."""
        if self.kind == "double_log":
            inner = math.log1p(self.corner)
            return -math.log(inner), -1.0 / ((1.0 + self.corner) * inner)
        return -math.log(self.corner), -1.0 / self.corner
