"""What a supernet shows of its search: costs, certainty, accuracy. A search that stalls is seen."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mpqdeploy.data import Loader
from mpqdeploy.nn import task_of
from mpqdeploy.nn.training import evaluate
from mpqdeploy.search.bilevel import Bilevel
from mpqdeploy.search.engine import Problem


@torch.no_grad()
def observe(bilevel: Bilevel, problem: Problem, val_batches: int) -> dict[str, Any]:
    """The fields of an `Epoch` that are read off the supernet; accuracy on `val_batches`."""
    probabilities = bilevel.probabilities()
    expected = bilevel.costs.in_units(bilevel.costs(probabilities))
    size = task_of(bilevel.net).evaluation_batch
    batches = islice(iter(Loader(problem.dataset, "val", batch_size=size)), val_batches)
    return {
        "expected": expected,
        "violation": {
            b.metric: max(0.0, expected[b.metric] - b.limit) / b.limit for b in problem.budgets
        },
        "limits": {budget.metric: budget.limit for budget in problem.budgets},
        "argmax_cost": problem.costs(bilevel.chosen()),
        "val_accuracy": evaluate(bilevel.net, batches, device=problem.device),
        "max_probability": {site: p.max().item() for site, p in probabilities.items()},
        "entropy": {site: _entropy(p) for site, p in probabilities.items()},
    }


def _entropy(probabilities: Tensor) -> float:
    """In nats."""
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum().item()
