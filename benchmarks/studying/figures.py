"""The claims as figures: SVG files that lie beside the pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from searching.plots import ACCENT, INK, MUTED, SECOND, STYLE, WARN

from mpqdeploy.core.files import replacing
from studying.finals import best_below
from studying.qaft import SIZES, pairs_of
from studying.standings import curves_of

Records = Sequence[Mapping[str, Any]]

ENGINES = {
    "random": ("random", MUTED),
    "evolution": ("evolution", WARN),
    "bo": ("Bayesian optimization", ACCENT),
    "botorch": ("BoTorch", SECOND),
}
ARMS = {"QAFT": ACCENT, "PTQ": WARN}


def samplers(records: Records, file: Path) -> None:
    """Curves over the trials, mean and standard error over the seeds, a panel per function."""
    names = list(dict.fromkeys(record["function"] for record in records))
    with _drawn(file, len(names)) as panels:
        for axes, name in zip(panels, names, strict=True):
            here = [record for record in records if record["function"] == name]
            for engine in dict.fromkeys(record["engine"] for record in here):
                _curve(axes, curves_of(here, engine), *ENGINES[engine])
            axes.set_title(name)
            axes.set_xlabel("trials")
        panels[0].set_ylabel("hypervolume, or best accuracy inside")
        panels[0].legend(loc="lower right")


def qaft(records: Records, file: Path) -> None:
    """Left, the fronts trained in full, one line a seed; right, the gain at equal size."""
    with _drawn(file, 2) as (left, right):
        for arm, color in ARMS.items():
            for number, record in enumerate(r for r in records if r["arm"] == arm):
                label = f"{arm} in the loop" if number == 0 else None
                _staircase(left, record["front"], color, label)
        left.set_xlabel("KiB of weights")
        left.set_ylabel("test accuracy, trained in full (%)")
        left.legend(loc="lower right")
        _gains(right, records)


def fronts(records: Records, file: Path) -> None:
    """A panel per data set: what the study found, and the uniform variants."""
    with _drawn(file, len(records)) as panels:
        for axes, record in zip(panels, records, strict=True):
            uniform = record["uniform"]
            sizes = [one["bytes"] / 1024 for one in uniform]
            axes.scatter(
                sizes, [100 * one["tuned"] for one in uniform], 40, MUTED, marker="s",
                label="uniform MobileNetV2",
            )  # fmt: skip
            for size, one in zip(sizes, uniform, strict=True):
                axes.annotate(
                    one["precision"], (size, 100 * one["tuned"]), (5, -3),
                    textcoords="offset points", color=MUTED, fontsize=8,
                )  # fmt: skip
            _staircase(axes, record["front"], ACCENT, "found")
            axes.set_title(record["data"])
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("KiB of weights (logarithmic)")
        panels[0].set_ylabel("test accuracy (%)")
        panels[0].legend(loc="lower right")


@contextmanager
def _drawn(file: Path, columns: int) -> Iterator[Sequence[Axes]]:
    """Panels side by side, saved when the block ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5 * columns, 4), layout="constrained")
        yield list(figure.subplots(1, columns, squeeze=False)[0])
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _curve(axes: Axes, curves: np.ndarray[Any, Any], label: str, color: str) -> None:
    trials, mean = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0)
    error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves)) if len(curves) > 1 else 0 * mean
    axes.step(trials, mean, where="post", color=color, label=label)
    axes.fill_between(trials, mean - error, mean + error, step="post", color=color, alpha=0.15)


def _staircase(
    axes: Axes, front: Sequence[Mapping[str, Any]], color: str, label: str | None
) -> None:
    """Every network of a front, and the best accuracy up to each size."""
    ordered = sorted(front, key=lambda one: float(one["bytes"]))
    sizes = [one["bytes"] / 1024 for one in ordered]
    accuracies = [100 * one["tuned"] for one in ordered]
    best = np.maximum.accumulate(accuracies)
    axes.step(sizes, best, where="post", color=color, alpha=0.6, label=label)
    axes.scatter(sizes, accuracies, 14, color)


def _gains(axes: Axes, records: Records) -> None:
    """How much more accurate QAFT is at equal size: a dot per seed, a bar for the mean."""
    for place, size in enumerate(SIZES):
        pairs = pairs_of(records, partial(best_below, size=size))
        gains = [100 * (qaft - ptq) for qaft, ptq in pairs]
        axes.scatter([place] * len(gains), gains, 20, ACCENT, alpha=0.6)
        if gains:
            axes.hlines(float(np.mean(gains)), place - 0.3, place + 0.3, color=INK)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.set_xticks(range(len(SIZES)), [f"{size / 1024:g}" for size in SIZES])
    axes.set_xlabel("at most so many KiB")
    axes.set_ylabel("QAFT against PTQ in the loop (points)")
