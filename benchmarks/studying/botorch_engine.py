"""BoTorch as an engine: what Optuna's Gaussian process is compared with. Needs `botorch`."""

from __future__ import annotations

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import LogConstrainedExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.mlls import SumMarginalLogLikelihood
from numpy.typing import NDArray
from torch import Tensor

from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Point

# As many as Optuna's sampler looks at before its local searches.
CANDIDATES = 2048
ROUNDS, STARTS, CHANGES = 8, 10, 20


class Engine:
    """Matern-5/2 with BoTorch's dimension-scaled priors, one model per value and per budget.

    Its acquisition is maximised over valid points only, which are encoded as `Space.encode` does:
    random ones, changes of the best, then a local search by single changes. Conditional
    parameters are thereby treated exactly, which is what this engine has over Optuna's.
    """

    def propose(self, history: History) -> Point:
        if len(history.complete) < history.initial:
            return history.drawn()
        rng = history.rng("botorch")
        torch.manual_seed(int(rng.integers(2**31)))
        inputs = _encoded(history, [trial.point for trial in history.complete])
        values, violations = _targets(history)
        model = _fit(inputs, torch.cat([values, violations], dim=1))
        acquisition = _acquisition(model, inputs, values, violations)
        return history.untried(_maximised(history, acquisition, rng), rng)


def _encoded(history: History, points: list[Point]) -> Tensor:
    """`n × d`."""
    return torch.tensor(np.stack([history.space.encode(point) for point in points]))


def _targets(history: History) -> tuple[Tensor, Tensor]:
    """`n × m` values, all to be large, and `n × c` log(cost/limit); as Optuna's engine has them."""
    values, over = [], []
    for trial in history.complete:
        assert trial.outcome is not None  # noqa: S101 - complete
        first, *costs = history.objective.values(trial.outcome)
        values.append([first, *(-np.log(cost) for cost in costs)])
        over.append([np.log1p(share) for share in trial.violations.values()])
    count = len(values)
    return torch.tensor(np.array(values)), torch.tensor(np.array(over).reshape(count, -1))


def _fit(inputs: Tensor, targets: Tensor) -> ModelListGP:
    models = [
        SingleTaskGP(
            inputs,
            targets[:, [column]],
            covar_module=get_covar_module_with_dim_scaled_prior(
                ard_num_dims=inputs.shape[1], use_rbf_kernel=False
            ),
            outcome_transform=Standardize(m=1),
        )
        for column in range(targets.shape[1])
    ]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    return model


def _acquisition(
    model: ModelListGP, inputs: Tensor, values: Tensor, violations: Tensor
) -> AcquisitionFunction:
    objectives, constraints = values.shape[1], violations.shape[1]
    if objectives == 1:
        inside = (violations <= 0).all(dim=1)
        best = values[inside, 0].max() if inside.any() else values[:, 0].min()
        bounds = {1 + index: (None, 0.0) for index in range(constraints)}
        return LogConstrainedExpectedImprovement(model, best, 0, bounds)
    from botorch.acquisition.multi_objective.objective import WeightedMCMultiOutputObjective

    return qLogNoisyExpectedHypervolumeImprovement(
        model=model,
        ref_point=values.min(dim=0).values,
        X_baseline=inputs,
        objective=WeightedMCMultiOutputObjective(
            weights=torch.ones(objectives, dtype=values.dtype), outcomes=list(range(objectives))
        ),
        constraints=[
            (lambda samples, column=objectives + index: samples[..., column])
            for index in range(constraints)
        ]
        or None,
        prune_baseline=True,
    )


def _maximised(
    history: History, acquisition: AcquisitionFunction, rng: np.random.Generator
) -> Point:
    space = history.space
    ordered = history.objective.order(history.trials)[:STARTS]
    points = [space.sample(rng) for _ in range(CANDIDATES)]
    for trial in ordered:
        points += [space.mutate(trial.point, rng) for _ in range(CHANGES)]
    scores = _scores(history, acquisition, points)
    for _ in range(ROUNDS):
        best = [points[index] for index in np.argsort(-scores)[:STARTS]]
        near = [space.mutate(point, rng) for point in best for _ in range(CHANGES)]
        points, scores = best + near, _scores(history, acquisition, best + near)
    fresh = [
        index for index in np.argsort(-scores) if space.key(points[index]) not in history.tried
    ]
    return points[fresh[0]] if fresh else points[int(np.argmax(scores))]


def _scores(
    history: History, acquisition: AcquisitionFunction, points: list[Point]
) -> NDArray[np.float64]:
    with torch.no_grad():
        parts = _encoded(history, points).unsqueeze(1).split(256)
        return torch.cat([acquisition(part) for part in parts]).numpy()
