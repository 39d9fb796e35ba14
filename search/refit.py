"""What the device said corrects the cost table and the budget.

A network is more than its kernels. With S the sum of the sites' entries, the model is

    latency = offset + scale * S        offset >= 0, scale > 0                            [o]

*Offset*: what is paid per call whatever the precisions are (dispatch, quantizing the input,
pooling). *Scale*: what changes every kernel alike (caches shared with the neighbours, clock, the
epilogues). Both are fitted to all rounds by least squares in units of each measurement's own
uncertainty, with priors offset ~ 0 +- PRIOR * mean(S) and scale ~ 1 +- PRIOR, because the kernels
were timed one by one on this very device:

    minimise  sum_r ((offset + scale S_r - m_r) / s_r)^2
              + (offset / (PRIOR mean(S)))^2 + ((scale - 1) / PRIOR)^2

- One round, m >= S: it cannot tell the two apart, and the equal priors halve the miss between
  them. All of it as offset would throw away accuracy where it was scale (the next search aims far
  below the budget, and the stop rule is content); all of it as scale would miss where it was
  offset. Half-way errs least, and the second round settles it.
- One round, m < S: an offset cannot be negative, so the scale takes it, S scaled to m.
- Two rounds or more with S apart: the data outweigh the priors. With S close together their noise
  would set the slope; there the priors do.
- Where the fit puts even the cheapest network over the budget, the fit with offset 0 is taken if
  it does not: too few rounds must not declare a budget infeasible by extrapolation.

Tightening. The next search gets `limit * (1 - margin)`: margin is the last interval's half-width
(the budget has to hold with its interval), the worst residual of the fit (what the model does not
explain of one policy it will not explain of the next), and STEP for every round that missed, so
that a systematic error cannot repeat for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from mpqdeploy.core import Budget, ConfigError, CostTable, LatencyRecord, Policy

PRIOR = 0.3
STEP = 0.01
MISFIT = 0.01
"""Least relative uncertainty of a round: the model itself is not better than 1 % [o]."""
LEAST_SCALE = 0.05


@dataclass(frozen=True, kw_only=True)
class Round:
    """One network: S by the uncorrected table, and what the device said, all in the same unit."""

    predicted: float
    measured: float
    low: float
    high: float

    @classmethod
    def of(cls, table: CostTable, policy: Policy, record: LatencyRecord) -> Round:
        """`table` may carry a correction already; it is left out of `predicted`."""
        low, high = record.interval_us
        predicted = uncorrected(table).of(policy)
        return cls(predicted=predicted, measured=record.median_us, low=low, high=high)

    def inside(self, budget: Budget) -> bool:
        """The stop rule: the whole confidence interval lies inside the budget."""
        return budget.holds(self.high)

    @property
    def half_width(self) -> float:
        """Upper half of the interval as a share of the median."""
        return max(self.high - self.measured, 0.0) / self.measured


@dataclass(frozen=True, kw_only=True)
class Refit:
    """The corrected table, the limit to search with, and how well the rounds are explained."""

    table: CostTable
    budget: Budget
    margin: float
    worst_residual: float


def uncorrected(table: CostTable) -> CostTable:
    return replace(table, offset=0.0, scale=1.0)


def refit(
    table: CostTable,
    budget: Budget,
    rounds: Sequence[Round],
    *,
    least: float | None = None,
    misses: int | None = None,
) -> Refit:
    """Fit all rounds so far; `budget` is the user's, never an already tightened one.

    `least`: S of the cheapest network. The new limit never goes below that network's corrected
    latency: when no more can be asked of the search, it gives the cheapest network, and whether
    that one meets the user's budget is for the device to say. `misses`: how many *searched* rounds
    were over, where `rounds` also holds networks that were measured for comparison; by default all
    that are over count. Raises `ConfigError` without any round.
    """
    if not rounds:
        raise ConfigError(
            f"no measurement to correct the {budget.metric} table with.",
            hint="Measure a compiled network first.",
        )
    offset, scale = fit(rounds)
    if least is not None and offset + scale * least > budget.limit:
        offset, scale = _fit_scale(rounds, budget, least) or (offset, scale)
    residuals = [abs(offset + scale * r.predicted - r.measured) / r.measured for r in rounds]
    missed = sum(not r.inside(budget) for r in rounds) if misses is None else misses
    margin = min(rounds[-1].half_width + max(residuals) + STEP * missed, 0.5)
    limit = budget.limit * (1 - margin)
    if least is not None:
        limit = max(limit, offset + scale * least)
    return Refit(
        table=replace(table, offset=offset, scale=scale),
        budget=replace(budget, limit=limit),
        margin=margin,
        worst_residual=max(residuals),
    )


def fit(rounds: Sequence[Round]) -> tuple[float, float]:
    """(offset, scale) by the bounded least squares above."""
    predicted = np.array([r.predicted for r in rounds])
    measured = np.array([r.measured for r in rounds])
    sigma = _sigma(rounds)
    # The offset in units of mean(S) keeps the system well scaled.
    unit = float(predicted.mean())
    rows = np.column_stack([unit / sigma, predicted / sigma])
    system = np.vstack([rows, np.eye(2) / PRIOR])
    right = np.append(measured / sigma, [0.0, 1.0 / PRIOR])
    solution = lsq_linear(system, right, bounds=([0.0, LEAST_SCALE], [np.inf, np.inf]), tol=1e-12)
    offset, scale = solution.x
    return float(offset) * unit, float(scale)


def _fit_scale(rounds: Sequence[Round], budget: Budget, least: float) -> tuple[float, float] | None:
    """The fit with offset 0, if that one admits the cheapest network."""
    predicted = np.array([r.predicted for r in rounds])
    measured = np.array([r.measured for r in rounds])
    weight = 1.0 / _sigma(rounds) ** 2
    scale = float((weight * predicted * measured).sum() / (weight * predicted**2).sum())
    return (0.0, scale) if scale * least <= budget.limit else None


def _sigma(rounds: Sequence[Round]) -> NDArray[np.float64]:
    """Standard deviation of each measurement; a 95 % interval is 1.96 of them to either side."""
    spread = np.array([(r.high - r.low) / 3.92 for r in rounds])
    floor = MISFIT * np.array([r.measured for r in rounds])
    return np.asarray(np.maximum(spread, floor), dtype=np.float64)
