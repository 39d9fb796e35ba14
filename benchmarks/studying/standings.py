"""What races amount to: a row per function and engine, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studying.races import INITIAL, Record

AIM = "evolution"
"""Whose end the others are to reach."""
COLUMNS = (
    "function", "engine", "after a quarter", "after half", "at the end",
    "trials to evolution's end", "evolution's over these [95 %]", "s per proposal",
)  # fmt: skip
RESAMPLES = 2000

Curves = NDArray[np.float64]


def standings(records: Sequence[Record]) -> list[list[str]]:
    """Mean ± standard error of the curves at three moments, and when each reaches evolution's end.

    Trials are counted on the mean curve. The interval of their ratio is a bootstrap over seeds,
    the same seeds of both engines, because these share their first trials.
    """
    rows = []
    for name in dict.fromkeys(record["function"] for record in records):
        here = [record for record in records if record["function"] == name]
        aim = curves_of(here, AIM)
        for engine in dict.fromkeys(record["engine"] for record in here):
            curves = curves_of(here, engine)
            rows.append(
                [name, engine, *_moments(curves), *_against(curves, aim), _pace(here, engine)]
            )
    return rows


def curves_of(records: Sequence[Record], engine: str) -> Curves:
    """`seeds × trials`, by seed."""
    group = [record for record in records if record["engine"] == engine]
    ordered = sorted(group, key=lambda record: int(record["seed"]))
    return np.array([record["curve"] for record in ordered])


def reached(curves: Curves, aim: float) -> int | None:
    """The first trial after which the mean curve is at `aim`; None where it never is."""
    there = np.flatnonzero(curves.mean(axis=0) >= aim - 1e-12)
    return int(there[0]) + 1 if len(there) else None


def speedups(curves: Curves, aim: Curves) -> Curves:
    """Evolution's trials over an engine's, to evolution's end, of every resample of the seeds.

    Where the engine does not get there, all its trials and one more are counted.
    """
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(aim), size=len(aim))
        end = float(aim[chosen].mean(axis=0)[-1])
        own, other = reached(aim[chosen], end), reached(curves[chosen], end)
        ratios.append((own or 1) / (other or curves.shape[1] + 1))
    return np.array(ratios)


def _moments(curves: Curves) -> list[str]:
    trials = curves.shape[1]
    cells = []
    for position in (trials // 4, trials // 2, trials):
        column = curves[:, position - 1]
        error = column.std(ddof=1) / np.sqrt(len(column)) if len(column) > 1 else 0.0
        cells.append(f"{column.mean():.4f} ± {error:.4f}")
    return cells


def _against(curves: Curves, aim: Curves) -> list[str]:
    if not len(aim):
        return ["", ""]
    end = float(aim.mean(axis=0)[-1])
    own, here = reached(aim, end), reached(curves, end)
    trials = f"> {curves.shape[1]}" if here is None else str(here)
    if len(curves) != len(aim) or own is None:
        return [trials, ""]
    low, high = np.percentile(speedups(curves, aim), (2.5, 97.5))
    ratio = f"{own / here:.2f}" if here else "below 1"
    return [trials, f"{ratio} [{low:.2f}, {high:.2f}]"]


def _pace(records: Sequence[Record], engine: str) -> str:
    """Median seconds of a proposal, those at random left out."""
    seconds: list[Any] = [
        second
        for record in records
        if record["engine"] == engine
        for second in record["seconds"][INITIAL:]
    ]
    return f"{np.median(seconds):.2f}" if seconds else ""
