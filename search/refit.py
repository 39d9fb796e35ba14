"""What the device said corrects the cost table and the budget.

A network is more than its kernels. With S_p the sum of the entries of the sites at precision p, the
model is

    latency = offset + sum_p scale_p S_p        offset >= 0, scale_p > 0                  [o]

*Offset*: what is paid per call whatever the precisions are (dispatch, quantizing the input,
pooling). *Scale*: what changes every kernel alike (caches shared with the neighbours, clock, the
epilogues). *Scale per precision*: what a layer of that width costs its neighbours (one that reads
codes of its own makes their producer store twice) and gains in the network's company. All are
fitted to all rounds by least squares in units of each measurement's own uncertainty, with priors
offset ~ 0 +- PRIOR * mean(S), scale ~ 1 +- PRIOR, because the kernels were timed one by one on this
very device, and scale_p ~ scale +- SPREAD:

    minimise  sum_r ((offset + sum_p scale_p S_rp - m_r) / s_r)^2
              + (offset / (PRIOR mean(S)))^2 + ((scale - 1) / PRIOR)^2
              + sum_p ((scale_p - scale) / SPREAD)^2

- One round, m >= S: it cannot tell them apart, and the priors share the miss out between offset and
  scale. All of it as offset would throw away accuracy where it was scale (the next search aims far
  below the budget, and the stop rule is content); all of it as scale would miss where it was
  offset. Between them errs least, and the second round settles it.
- One round, m < S: an offset cannot be negative, so the scale takes it, S scaled to m.
- Two rounds or more with S apart: the data outweigh the priors. With S close together their noise
  would set the slope; there the priors do.
- A precision that no round contained keeps the common scale.
- Where the fit puts even the cheapest network over the budget, the fit of a scale alone is taken if
  it does not: too few rounds must not declare a budget infeasible by extrapolation.

Tightening. The next search gets `limit * (1 - margin)`: margin is the last interval's half-width
(the budget has to hold with its interval), the worst excess of a measurement over the fit, at least
MISFIT (what the model promised too cheap once it will promise too cheap again; a network that was
faster than promised misses no budget), and STEP for every round that missed, so that a systematic
error cannot repeat for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from mpqdeploy.core import Budget, ConfigError, CostTable, LatencyRecord, Policy, Precision

PRIOR = 0.3
SPREAD = 0.15
"""Half and twice of it predict ResNet-20's networks as well; without it the error is three times
as large (docs/decisions/0003)."""
STEP = 0.01
MISFIT = 0.01
"""Least relative uncertainty of a round: the model itself is not better than 1 % [o]."""
LEAST_SCALE = 0.05


Sums = Mapping[Precision, float]


@dataclass(frozen=True, kw_only=True)
class Round:
    """One network: S_p by the uncorrected table, and what the device said, all in the same unit."""

    sums: Sums
    measured: float
    low: float
    high: float

    @classmethod
    def of(cls, table: CostTable, policy: Policy, record: LatencyRecord) -> Round:
        """`table` may carry a correction already; it is left out of `sums`."""
        low, high = record.interval_us
        return cls(sums=sums(table, policy), measured=record.median_us, low=low, high=high)

    def inside(self, budget: Budget) -> bool:
        """The stop rule: the whole confidence interval lies inside the budget."""
        return budget.holds(self.high)

    @property
    def half_width(self) -> float:
        """Upper half of the interval as a share of the median."""
        return max(self.high - self.measured, 0.0) / self.measured


@dataclass(frozen=True, kw_only=True)
class Correction:
    """latency = offset + scale * sum_p factors[p] * S_p, 1 for a precision that is not named."""

    offset: float
    scale: float
    factors: Mapping[Precision, float]

    def of(self, sums: Sums) -> float:
        """The corrected cost of a network."""
        scaled = sum(self.factors.get(precision, 1.0) * s for precision, s in sums.items())
        return self.offset + self.scale * scaled

    def corrected(self, table: CostTable) -> CostTable:
        return replace(table, offset=self.offset, scale=self.scale, factors=self.factors)


@dataclass(frozen=True, kw_only=True)
class Refit:
    """The corrected table, the limit to search with, and how well the rounds are explained."""

    table: CostTable
    budget: Budget
    margin: float
    worst_excess: float


def sums(table: CostTable, policy: Policy) -> dict[Precision, float]:
    """S_p of a network: the uncorrected entries of its sites, summed by precision."""
    found: dict[Precision, float] = {}
    for site, entries in table.entries.items():
        precision = policy[site]
        found[precision] = found.get(precision, 0.0) + entries[precision]
    return found


def refit(
    table: CostTable,
    budget: Budget,
    rounds: Sequence[Round],
    *,
    least: Sums | None = None,
    misses: int | None = None,
) -> Refit:
    """Fit all rounds so far; `budget` is the user's, never an already tightened one.

    `least`: S_p of the cheapest network. The new limit never goes below that network's corrected
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
    found = fit(rounds)
    if least is not None and found.of(least) > budget.limit:
        scaled = _fit_scale(rounds)
        found = scaled if scaled.of(least) <= budget.limit else found
    excess = max((r.measured - found.of(r.sums)) / r.measured for r in rounds)
    missed = sum(not r.inside(budget) for r in rounds) if misses is None else misses
    margin = min(rounds[-1].half_width + max(excess, MISFIT) + STEP * missed, 0.5)
    limit = budget.limit * (1 - margin)
    if least is not None:
        limit = max(limit, found.of(least))
    return Refit(
        table=found.corrected(table),
        budget=replace(budget, limit=limit),
        margin=margin,
        worst_excess=excess,
    )


def fit(rounds: Sequence[Round]) -> Correction:
    """The bounded least squares above; unknowns: offset, scale, then scale_p."""
    precisions = list(dict.fromkeys(p for r in rounds for p in r.sums))
    parts = np.array([[r.sums.get(p, 0.0) for p in precisions] for r in rounds])
    measured = np.array([r.measured for r in rounds])
    sigma = _sigma(rounds)
    # The offset in units of mean(S) keeps the system well scaled.
    unit = float(parts.sum(axis=1).mean())
    count = len(precisions)
    data = np.column_stack([np.full(len(rounds), unit), np.zeros(len(rounds)), parts])
    priors = np.zeros((2 + count, 2 + count))
    priors[0, 0] = priors[1, 1] = 1 / PRIOR
    priors[2:, 1] = -1 / SPREAD
    priors[2:, 2:] = np.eye(count) / SPREAD
    system = np.vstack([data / sigma[:, None], priors])
    right = np.concatenate([measured / sigma, [0.0, 1 / PRIOR], np.zeros(count)])
    floor = np.array([0.0, *[LEAST_SCALE] * (1 + count)])
    solution = lsq_linear(system, right, bounds=(floor, np.inf), tol=1e-12)
    offset, scale, *scales = solution.x.tolist()
    factors = {p: own / scale for p, own in zip(precisions, scales, strict=True)}
    return Correction(offset=offset * unit, scale=scale, factors=factors)


def _fit_scale(rounds: Sequence[Round]) -> Correction:
    """The least squares of a scale alone."""
    predicted = np.array([sum(r.sums.values()) for r in rounds])
    measured = np.array([r.measured for r in rounds])
    weight = 1.0 / _sigma(rounds) ** 2
    scale = float((weight * predicted * measured).sum() / (weight * predicted**2).sum())
    return Correction(offset=0.0, scale=scale, factors={})


def _sigma(rounds: Sequence[Round]) -> NDArray[np.float64]:
    """Standard deviation of each measurement; a 95 % interval is 1.96 of them to either side."""
    spread = np.array([(r.high - r.low) / 3.92 for r in rounds])
    floor = MISFIT * np.array([r.measured for r in rounds])
    return np.asarray(np.maximum(spread, floor), dtype=np.float64)
