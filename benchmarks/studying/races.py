"""Engines race on a function: how good is the best network, or the front, after every trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.search.bomp.engines import Proposer, load_engine
from mpqdeploy.search.bomp.front import hypervolume_curve
from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.score import violations
from mpqdeploy.search.bomp.trial import Trial
from mpqdeploy.ui import Ui
from studying.functions import Function

INITIAL = 10
COLUMNS = (
    "function", "engine", "after a quarter", "after half", "at the end",
    "trials to evolution's end", "s per proposal",
)  # fmt: skip
Record = dict[str, Any]


def botorch() -> Proposer:
    from studying.botorch_engine import Engine

    return Engine()


ENGINES: Mapping[str, Callable[[], Proposer]] = {
    "random": lambda: load_engine("random"),
    "evolution": lambda: load_engine("evolution"),
    "bo": lambda: load_engine("bo"),
    "botorch": botorch,
}


def races(
    chosen: Sequence[Function], engines: Sequence[str], seeds: int, trials: int,
    folder: Path, ui: Ui,
) -> list[Record]:  # fmt: skip
    """A record per function, engine and seed; those on disk are not run again."""
    records = []
    # Seeds outermost: what a killed run leaves is a whole comparison over fewer of them.
    for seed, function, engine in product(range(seeds), chosen, engines):
        file = folder / f"{function.name}-{engine}-{trials}-seed{seed}.json"
        if not file.exists():
            write_json(file, race(function, engine, seed, trials))
        records.append(read_json(file))
        ui.note(f"  {file.stem}: {records[-1]['curve'][-1]:.4f}")
    return records


def race(function: Function, engine: str, seed: int, trials: int) -> Record:
    """A study without a storage: what the engine proposes is evaluated at once."""
    proposer, done, seconds = ENGINES[engine](), list[Trial](), list[float]()
    for number in range(trials):
        history = History(
            space=function.space,
            objective=function.objective,
            budgets=function.budgets,
            trials=tuple(done),
            number=number,
            initial=INITIAL,
            seed=seed,
        )
        began = time.perf_counter()
        point = function.admit(proposer.propose(history), history.tried)
        seconds.append(time.perf_counter() - began)
        done.append(_tried(function, number, point))
    return {
        "function": function.name,
        "engine": engine,
        "seed": seed,
        "curve": _curve(function, done),
        "seconds": seconds,
    }


def _tried(function: Function, number: int, point: Point) -> Trial:
    outcome = function.evaluate(point)
    over = violations(outcome.costs, function.budgets)
    return Trial(number=number, state="complete", point=point, outcome=outcome, violations=over)


def _curve(function: Function, trials: Sequence[Trial]) -> list[float]:
    """After each trial: the best accuracy inside the budgets (0 where there is none), or the
    hypervolume as a share of the rectangle between the reference and (1, 0)."""
    outcomes = [trial.outcome if trial.feasible else None for trial in trials]
    if function.reference is None:
        found = [outcome.accuracy if outcome else 0.0 for outcome in outcomes]
        return [float(best) for best in np.maximum.accumulate(found)]
    metric = function.objective.metric or "bytes"
    pairs = [(o.accuracy, o.costs[metric]) if o else None for o in outcomes]
    floor, ceiling = function.reference
    whole = (1 - floor) * ceiling
    return [area / whole for area in hypervolume_curve(pairs, function.reference)]


def summary(records: Sequence[Record]) -> list[list[str]]:
    """A row per function and engine, over its seeds: mean ± standard error."""
    rows = []
    for name in dict.fromkeys(record["function"] for record in records):
        here = [record for record in records if record["function"] == name]
        aim = _mean_curve([r for r in here if r["engine"] == "evolution"])
        for engine in dict.fromkeys(record["engine"] for record in here):
            group = [record for record in here if record["engine"] == engine]
            rows.append([name, engine, *_cells(group, None if aim is None else aim[-1])])
    return rows


def _mean_curve(group: Sequence[Record]) -> Any:
    return np.mean([record["curve"] for record in group], axis=0) if group else None


def _cells(group: Sequence[Record], aim: float | None) -> list[str]:
    curves = np.array([record["curve"] for record in group])
    trials = curves.shape[1]
    cells = []
    for position in (trials // 4, trials // 2, trials):
        column = curves[:, position - 1]
        error = column.std(ddof=1) / np.sqrt(len(column)) if len(column) > 1 else 0.0
        cells.append(f"{column.mean():.4f} ± {error:.4f}")
    reached = None if aim is None else np.flatnonzero(curves.mean(axis=0) >= aim - 1e-12)
    if reached is None:
        cells.append("")
    else:
        cells.append(str(reached[0] + 1) if len(reached) else f"> {trials}")
    modelled = [second for record in group for second in record["seconds"][INITIAL:]]
    return [*cells, f"{np.median(modelled):.2f}"]
