"""Engines race on a function: how good is the best network, or the front, after every trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import UserError
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


class Race:
    """Races of one length. Those that lie in `folder` are not run again."""

    def __init__(self, trials: int, folder: Path, ui: Ui, *, initial: int = INITIAL) -> None:
        self._trials = trials
        self._folder = folder
        self._ui = ui
        self._initial = initial

    def __call__(self, function: Function, engine: str, seed: int) -> Record:
        name = f"{function.name}-{engine}-{self._trials}-seed{seed}"
        file = self._folder / f"{name}.json"
        if not file.exists():
            write_json(file, race(function, engine, seed, self._trials, self._initial))
        record: Record = read_json(file)
        self._ui.note(f"  {name}: {record['curve'][-1]:.4f}")
        return record


def races(
    chosen: Sequence[Function], engines: Sequence[str], seeds: Sequence[int], run: Race
) -> list[Record]:
    """A record per function, engine and seed."""
    # Seeds outermost: what a killed run leaves is a whole comparison over fewer of them.
    return [
        run(function, engine, seed) for seed, function, engine in product(seeds, chosen, engines)
    ]


def race(function: Function, engine: str, seed: int, trials: int, initial: int = INITIAL) -> Record:
    """A study without a storage: what the engine proposes is evaluated at once."""
    proposer, done, seconds = ENGINES[engine](), list[Trial](), list[float]()
    for number in range(trials):
        history = History(
            space=function.space,
            objective=function.objective,
            budgets=function.budgets,
            trials=tuple(done),
            number=number,
            initial=initial,
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
        "trials": [
            {"point": trial.point, "accuracy": o.accuracy, "costs": o.costs}
            for trial in done
            if (o := trial.outcome) is not None
        ],
    }


def _tried(function: Function, number: int, point: Point) -> Trial:
    try:
        outcome = function.evaluate(point)
    except UserError as error:  # training that diverged: a failed trial, as in a study
        return Trial(number=number, state="failed", point=point, reason=str(error))
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
