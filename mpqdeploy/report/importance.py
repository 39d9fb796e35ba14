"""Which parameters of a space decide the accuracy, by functional ANOVA as Optuna computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpqdeploy.search.bomp import Categorical, Parameter, Point, Space, Trial

if TYPE_CHECKING:
    import optuna

FEWEST = 4
"""Trials below which a share of the variance means nothing."""
_LEFT_OUT = -1


def importances(trials: Sequence[Trial], space: Space) -> dict[str, float]:
    """Share of the variance of accuracy that each parameter explains, greatest first.

    A parameter that is inactive counts as one value more, below the others: Optuna leaves out
    whatever not every trial has [o]. Empty where there are too few trials or no difference.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    complete = [(t.point, t.outcome.accuracy) for t in trials if t.outcome is not None]
    varied = [p for p in space.parameters if len({_index(p, point) for point, _ in complete}) > 1]
    if len(complete) < FEWEST or len({accuracy for _, accuracy in complete}) < 2 or not varied:
        return {}
    study = optuna.create_study(direction="maximize")
    distributions = {parameter.name: _distribution(parameter) for parameter in varied}
    for point, accuracy in complete:
        params = {parameter.name: _index(parameter, point) for parameter in varied}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=accuracy)
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _index(parameter: Parameter, point: Point) -> int:
    name = parameter.name
    return parameter.index(point[name]) if name in point else _LEFT_OUT


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    import optuna

    indices = range(_LEFT_OUT if parameter.when else 0, len(parameter.values))
    if isinstance(parameter, Categorical):
        return optuna.distributions.CategoricalDistribution(tuple(indices))
    return optuna.distributions.IntDistribution(indices[0], indices[-1])
