"""Samples that were taken in turn, compared turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpqdeploy.core.latency import median_interval


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median over turns, with its 95 % interval."""

    median: float
    low: float
    high: float


def ratio(base: Sequence[float], row: Sequence[float]) -> Ratio:
    """base / row, turn by turn: what slowed the machine in a turn slowed both.

    Raises `ValueError` where the two were not sampled in the same turns.
    """
    ratios = [before / after for before, after in zip(base, row, strict=True)]
    low, high = median_interval(ratios)
    return Ratio(median=float(np.median(ratios)), low=low, high=high)
