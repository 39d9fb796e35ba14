"""Bayesian optimization: a Gaussian process of what was tried says where to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Categorical, Parameter, Point, Value
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Trial


class Engine:
    """Optuna's Gaussian process: Matern-5/2 with a length scale per parameter, y standardised [F].

    Expected improvement in place of the paper's lower confidence bound [F], times the chance of
    being inside every budget, where each budget has a process of its own [o]; expected
    hypervolume improvement under the objective `front`. Trials that other workers have running
    count with what the model expects of them. docs/decisions says why it is this one.

    A sampler is made for every proposal, on a study in memory that is filled with the history:
    Optuna's own keeps its last fit, and would propose otherwise in a process that was started anew.
    """

    def propose(self, history: History) -> Point:
        if len(history.complete) < history.initial:
            return history.drawn()
        rng = history.rng("bo")
        sampler = GPSampler(seed=int(rng.integers(2**31)), n_startup_trials=1)
        study = optuna.create_study(directions=history.objective.directions, sampler=sampler)
        grid = _grid(history.space)
        for trial in (*history.complete, *history.running):
            study.add_trial(_placed(history, trial, grid))
        point = _point(history.space, study.ask(grid).params)
        return history.untried(point, rng)


def _grid(space: Space) -> dict[str, BaseDistribution]:
    """Every parameter by position: an ordinal's steps are of one length [F]."""
    return {
        p.name: CategoricalDistribution(range(len(p.values)))
        if isinstance(p, Categorical)
        else IntDistribution(0, len(p.values) - 1)
        for p in space.parameters
    }


def _position(parameter: Parameter, point: Point) -> int:
    """An inactive one is at its middle in every such point, and so no difference between them."""
    if parameter.name not in point:
        return len(parameter.values) // 2
    return parameter.index(point[parameter.name])


def _point(space: Space, positions: Mapping[str, int]) -> Point:
    """What is active at the positions that were chosen."""
    point: dict[str, Value] = {}
    for parameter in space.parameters:
        if space.active(parameter, point):
            point[parameter.name] = parameter.values[positions[parameter.name]]
    return point


def _placed(history: History, trial: Trial, grid: dict[str, BaseDistribution]) -> FrozenTrial:
    positions = {p.name: _position(p, trial.point) for p in history.space.parameters}
    if trial.outcome is None:
        return create_trial(state=TrialState.RUNNING, params=positions, distributions=grid)
    values = history.objective.values(trial.outcome)
    return create_trial(
        params=positions,
        distributions=grid,
        # Widths and bits multiply: a cost's logarithm is what a smooth model can follow [o].
        values=[values[0], *(math.log(cost) for cost in values[1:])],
        constraints={metric: math.log1p(over) for metric, over in trial.violations.items()},
    )
