"""The claims as figures: SVG files that lie beside the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpqdeploy.core.files import replacing
from searching.ablation import PARTS
from searching.fronts import BOPS, LATENCY, PROGRAM, UNIFORM
from searching.setting import METRICS

Records = Sequence[Mapping[str, Any]]

INK, ACCENT, MUTED, WARN, SECOND = "#1f2a37", "#0b7285", "#98a2b3", "#c2410c", "#7048a8"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "mpqdeploy",  # or every run would give other names to the same shapes
}
UNITS = {"latency": "measured latency", "bops": "BOPs", "bytes": "weight bytes"}


def hits(records: Records, file: Path) -> None:
    """Where each budget's network ended in the reachable range, and how many searches it took."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        axes = figure.subplots(2, len(METRICS), sharex=True, height_ratios=(2, 1))
        for column, metric in enumerate(METRICS):
            group = [r for r in records if r["metric"] == metric]
            _ends(axes[0, column], group, UNITS[metric])
            _searches(axes[1, column], group)
        axes[0, 0].set_ylabel("network found\n(% of the range)")
        axes[1, 0].set_ylabel("searches")
        axes[0, 0].legend(loc="upper left")
        _save(figure, file)


def ablation(records: Records, file: Path) -> None:
    """Repairs that the argmax network needed, and accuracy after fine-tuning, by combination."""
    groups: dict[tuple[bool, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record["parts"][part] for part in PARTS), []).append(record)
    names = ["\n".join(p for p, on in zip(PARTS, c, strict=True) if on) or "none" for c in groups]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _dots(left, names, [[r["moves"] for r in g] for g in groups.values()])
        left.set_ylabel("repairs of the argmax network")
        _dots(right, names, [[100 * r["test_accuracy"] for r in g] for g in groups.values()])
        right.set_ylabel("test accuracy (%)")
        _save(figure, file)


def front(records: Records, file: Path) -> None:
    """Accuracy against measured latency, and the same networks against BOPs."""
    looks = {
        LATENCY: ("BP-NAS under latency", ACCENT, "*", 130),
        BOPS: ("BP-NAS under BOPs", WARN, "o", 50),
        PROGRAM: ("integer program under latency", SECOND, "^", 50),
        UNIFORM: ("uniform", MUTED, "s", 45),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for method, (label, color, marker, size) in looks.items():
            group = [r for r in records if r["method"] == method]
            accuracy = [100 * r["test_accuracy"] for r in group]
            latency = [r["of_wide"] for r in group]
            middle = [m for m, _, _ in latency]
            spread = [[m - low for m, low, _ in latency], [high - m for m, _, high in latency]]
            left.errorbar(middle, accuracy, xerr=spread, fmt="none", ecolor=color, elinewidth=1)
            left.scatter(middle, accuracy, size, color, marker=marker, label=label, zorder=3)
            bops = [r["bops"] / 1e9 for r in group]
            right.scatter(bops, accuracy, size, color, marker=marker, zorder=3)
            if method == UNIFORM:
                _named(left, middle, accuracy, group)
                _named(right, bops, accuracy, group)
        left.set_xlabel("measured latency / uniform 8/8")
        left.set_ylabel("test accuracy (%)")
        right.set_xlabel("GBOPs (logarithmic)")
        right.set_xscale("log")
        left.legend(loc="lower right")
        _save(figure, file)


def _ends(axes: Axes, group: Records, title: str) -> None:
    room = np.array([100 * r["room"] for r in group])
    axes.fill_between([0, 100], [0, 100], 100, color=WARN, alpha=0.08, linewidth=0)
    axes.plot([0, 100], [0, 100], color=WARN, linewidth=1)
    axes.text(4, 70, "over the budget", color=WARN)
    for key, label, color, marker in (
        ("penalty", "penalty, all its searches", MUTED, "o"),
        ("bpnas", "BP-NAS, one search", ACCENT, "*"),
    ):
        used = np.array([r[key]["used"] for r in group])
        axes.scatter(room, used * room, 60, color, marker=marker, label=label, zorder=3)
    axes.set_title(title)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)


def _searches(axes: Axes, group: Records) -> None:
    room = [100 * r["room"] for r in group]
    axes.bar(room, [r["penalty"]["searches"] for r in group], 6, color=MUTED)
    axes.bar(room, [1] * len(group), 6, color=ACCENT)
    axes.set_xlabel("budget (% of the range)")


def _dots(axes: Axes, names: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    for place, group in enumerate(values):
        axes.scatter([place] * len(group), group, 30, ACCENT, alpha=0.6)
        axes.hlines(float(np.mean(group)), place - 0.3, place + 0.3, color=INK)
    axes.set_xticks(range(len(names)), names, fontsize=8)


def _named(axes: Axes, x: Sequence[float], y: Sequence[float], group: Records) -> None:
    for place, height, record in zip(x, y, group, strict=True):
        name = str(record["name"]).removeprefix(f"{UNIFORM}-")
        axes.annotate(name, (place, height), (6, -3), textcoords="offset points", color=MUTED)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
