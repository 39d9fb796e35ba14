"""Traces of the loss' second derivatives, leaf by leaf, without ever forming them.

Hutchinson's estimator: for probes z with independent entries of -1 or 1, E[z z^T] = I, so

    tr(H) = E[z^T H z] ~ 1/K sum_k z_k^T H z_k,      H z = d(g^T z)/dx with g = dL/dx,

one backward pass through the gradient per probe [F] (PyHessian, arXiv 1912.07145). All leaves share
a probe: the terms between two leaves have mean 0, so every leaf's own estimate z_i^T (H z)_i stays
unbiased, at the price of one pass instead of one per leaf.

The empirical Fisher information, the mean over images of the squared gradient, is the other
estimate: no second derivative, never negative, exact where the labels follow the model [F].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Probe = Sequence[Tensor]


def rademacher(leaves: Sequence[Tensor], generator: torch.Generator) -> Probe:
    """One probe: a tensor of -1 and 1 for each leaf; `generator` is a CPU generator."""
    return [torch.randint(0, 2, x.shape, generator=generator).mul_(2).sub_(1).to(x) for x in leaves]


def hessian_traces(loss: Tensor, leaves: Sequence[Tensor], probes: Iterable[Probe]) -> list[float]:
    """Estimates of tr(d2 loss / dx2) for each leaf x; `loss` is a scalar that depends on all."""
    gradients = torch.autograd.grad(loss, leaves, create_graph=True)
    sums, count = [0.0] * len(leaves), 0
    for probe in probes:
        along = sum(
            ((g * z).sum() for g, z in zip(gradients, probe, strict=True)), start=loss.new_zeros(())
        )
        products = torch.autograd.grad(along, leaves, retain_graph=True)
        for index, (product, z) in enumerate(zip(products, probe, strict=True)):
            sums[index] += (product * z).sum().item()
        count += 1
    return [total / count for total in sums]


def fisher_traces(loss: Tensor, leaves: Sequence[Tensor]) -> list[float]:
    """One image's part of the empirical Fisher trace: the squared norm of each leaf's gradient."""
    gradients = torch.autograd.grad(loss, leaves)
    return [gradient.square().sum().item() for gradient in gradients]
