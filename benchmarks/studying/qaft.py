"""Fine-tuning inside the loop against quantization alone: two studies of the same trials and seeds.

Both train the front that they are left with by one recipe, fine-tuning included, so that what
differs is only which networks they found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from studying.digits import ARMS, FULL, live
from studying.finals import best_below, finals, least_with
from studying.races import Race, Record
from studying.trained import Trained

SIZES = (4096, 6144, 8192, 12288, 16384)
ACCURACIES = (0.7, 0.8, 0.9, 0.95)
COLUMNS = ("", "QAFT in the loop", "PTQ in the loop", "QAFT against PTQ", "seeds")

Front = Sequence[dict[str, Any]]
Row = Mapping[str, Any]


def qaft(trained: Trained, race: Race, seeds: Sequence[int], most: int) -> list[Record]:
    """A record per arm and seed: its curve, and its front trained in full."""
    records = []
    for seed in seeds:
        for arm in ARMS:
            function = live(trained, arm)
            run = race(function, "bo", seed)
            _, ceiling = function.reference or (0.0, float("inf"))
            front = finals(trained, run, FULL, most, ceiling)
            records.append({"arm": arm, "seed": seed, "curve": run["curve"], "front": front})
    return records


def summary(records: Sequence[Record], key: str = "tuned") -> list[list[str]]:
    """Accuracy at equal size, then size at equal accuracy. `key`: which accuracy of the fronts.

    Only seeds count in which both arms have such a network.
    """
    rows = []
    for size in SIZES:
        pairs = pairs_of(records, lambda front, size=size: best_below(front, size, key))
        rows.append([f"accuracy at {size / 1024:g} KiB", *_differences(pairs)])
    for accuracy in ACCURACIES:
        pairs = pairs_of(records, lambda front, least=accuracy: least_with(front, least, key))
        rows.append([f"size at {100 * accuracy:g} %", *_ratios(pairs)])
    return rows


def pairs_of(
    records: Sequence[Record], measure: Callable[[Front], float | None]
) -> list[tuple[float, float]]:
    """(QAFT, PTQ) of the seeds where both have a figure."""
    fronts = {(record["arm"], record["seed"]): record["front"] for record in records}
    pairs = []
    for seed in dict.fromkeys(record["seed"] for record in records):
        one, other = measure(fronts["QAFT", seed]), measure(fronts["PTQ", seed])
        if one is not None and other is not None:
            pairs.append((one, other))
    return pairs


def _differences(pairs: Sequence[tuple[float, float]]) -> list[str]:
    if not pairs:
        return ["", "", "", "0"]
    values = 100 * np.array(pairs)
    gain = values[:, 0] - values[:, 1]
    cells = [f"{values[:, arm].mean():.1f} %" for arm in (0, 1)]
    return [*cells, f"{gain.mean():+.1f} ± {_error(gain):.1f} points", str(len(pairs))]


def _ratios(pairs: Sequence[tuple[float, float]]) -> list[str]:
    if not pairs:
        return ["", "", "", "0"]
    logs = np.log(np.array(pairs))
    ratio = logs[:, 0] - logs[:, 1]
    cells = [f"{np.exp(logs[:, arm].mean()) / 1024:.2f} KiB" for arm in (0, 1)]
    low, high = np.exp(ratio.mean() - _error(ratio)), np.exp(ratio.mean() + _error(ratio))
    share = f"{np.exp(ratio.mean()):.2f} [{low:.2f}, {high:.2f}] of its bytes"
    return [*cells, share, str(len(pairs))]


def _error(values: np.ndarray[Any, Any]) -> float:
    """Standard error of the mean; 0 of one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
