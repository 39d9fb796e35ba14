"""Claim 1: the argmax network is inside its budget, in one search; what a penalty takes instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import Metric
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.search import BpNas, BpNasSettings, Penalty, Problem, Result
from mpqdeploy.search.penalty import used
from mpqdeploy.ui import Ui
from searching.setting import METRICS, Setting

COLUMNS = (
    "budgets on", "how many", "BP-NAS: argmax inside", "repairs", "searches", "room used",
    "penalty: first search inside", "searches", "most", "never inside", "room used",
)  # fmt: skip


def rooms(count: int) -> list[float]:
    """Budgets evenly over the range, its ends left out: 5 % to 95 % for ten."""
    return [(index + 0.5) / count for index in range(count)]


def hits(
    setting: Setting, settings: BpNasSettings, folder: Path, count: int, ui: Ui
) -> list[dict[str, Any]]:
    """One record per metric and budget; those on disk are not searched again."""
    records = []
    for metric in METRICS:
        for room in rooms(count):
            file = folder / f"{metric}-{room:.3f}.json"
            if not file.exists():
                write_json(file, _record(setting, settings, folder, metric, room))
            records.append(read_json(file))
            ui.note(f"  {_line(records[-1])}")
    return records


def summary(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row per metric, and one for all."""
    groups: dict[str, list[Mapping[str, Any]]] = {
        metric: [r for r in records if r["metric"] == metric] for metric in METRICS
    }
    return [_row(name, group) for name, group in {**groups, "all": list(records)}.items() if group]


def _record(
    setting: Setting, settings: BpNasSettings, folder: Path, metric: Metric, room: float
) -> dict[str, Any]:
    problem = setting.problem(setting.budget(metric, room))
    name = f"{metric}-{room:.3f}"
    ours = BpNas(settings).search(problem, folder / "bpnas" / name)
    theirs = _penalized(problem, settings, folder / "penalty" / name, folder / "prices" / metric)
    return {
        "metric": metric,
        "room": room,
        "limit": problem.budgets[0].limit,
        "bpnas": _found(problem, ours) | {"upgrades": ours.upgrades},
        "penalty": _found(problem, theirs)
        | {"first_inside": first_inside(theirs), "searches": theirs.searches},
    }


def _found(problem: Problem, result: Result) -> dict[str, Any]:
    return {
        "argmax_inside": result.moves == 0,
        "moves": result.moves,
        "used": used(problem, result.policy),
        "val_accuracy": result.history[-1].val_accuracy,
        "seconds": sum(epoch.seconds for epoch in result.history),
    }


def first_inside(result: Result) -> int | None:
    """Which search of a penalty's was the first to end inside, counted from 1."""
    for epoch in result.history:
        if epoch.epoch == epoch.epochs and all(
            epoch.argmax_cost[metric] <= limit for metric, limit in epoch.limits.items()
        ):
            return epoch.round + 1
    return None


def _penalized(problem: Problem, settings: BpNasSettings, folder: Path, pool: Path) -> Result:
    """As from an empty folder: a search for one price is the same for every budget.

    So searches are made once and linked to wherever the same price is tried again; each budget
    counts its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool.mkdir(parents=True, exist_ok=True)
    for made in pool.iterdir():
        link = folder / made.name
        if not link.exists():
            link.symlink_to(made.absolute(), target_is_directory=True)
    result = Penalty(settings).search(problem, folder)
    for made in [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]:
        made.rename(pool / made.name)
        (folder / made.name).symlink_to((pool / made.name).absolute(), target_is_directory=True)
    return result


def _line(record: Mapping[str, Any]) -> str:
    ours, theirs = record["bpnas"], record["penalty"]
    return (
        f"{record['metric']} at {100 * record['room']:.0f} %: BP-NAS "
        f"{'inside' if ours['argmax_inside'] else str(ours['moves']) + ' repairs'}, penalty "
        f"{theirs['searches']} searches"
    )


def _row(name: str, group: Sequence[Mapping[str, Any]]) -> list[str]:
    ours, theirs = [r["bpnas"] for r in group], [r["penalty"] for r in group]
    searches = [found["searches"] for found in theirs]
    return [
        name,
        str(len(group)),
        f"{sum(found['argmax_inside'] for found in ours)}/{len(group)}",
        str(sum(found["moves"] for found in ours)),
        str(len(group)),
        f"{100 * np.median([found['used'] for found in ours]):.0f} %",
        f"{sum(found['first_inside'] == 1 for found in theirs)}/{len(group)}",
        str(sum(searches)),
        str(max(searches)),
        str(sum(found["first_inside"] is None for found in theirs)),
        f"{100 * np.median([found['used'] for found in theirs]):.0f} %",
    ]
