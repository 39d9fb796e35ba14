"""The optimizer of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from mpqdeploy.nn.training.recipe import Recipe


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], recipe: Recipe
) -> optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over the parameters that require a gradient.

    Only weights of two or more axes decay: pulling a BatchNorm's gain, a bias or a quantizer's
    scale towards zero changes what the network computes instead of regularizing it. A scale per
    channel has four axes too, hence the test of the name.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        is_weight = name.rpartition(".")[2] == "weight" and parameter.ndim >= 2
        (decayed if is_weight else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adam":
        return optim.AdamW(groups, lr=recipe.lr)
    nesterov = recipe.momentum > 0
    return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def set_rate(optimizer: optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
