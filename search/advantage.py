"""What each candidate is worth to the loss, to first order, for free from the logits' steps [o].

With p = softmax(t) and the loss's derivative d_m = dCE/dp_m,

    dCE/dt_m = p_m (d_m - sum_k p_k d_k)    so    A_m = -(dCE/dt_m) / p_m

is by how much the cross-entropy falls per unit of probability that goes to m and comes from all
alike. Unlike the logits, A knows nothing of barriers and Prob-1: it orders moves by accuracy alone.
It is averaged over the steps in which the distributions are still spread, because a candidate that
has lost its share is scored on weights that have forgotten it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mpqdeploy.core import Precision
from mpqdeploy.nn import SearchLayer

_LEAST = 1e-6


class Advantages:
    """Running means of A per logit vector of every layer."""

    def __init__(self, layers: Mapping[str, SearchLayer]) -> None:
        self._layers = layers
        self.count = 0
        self.sums = [
            torch.zeros_like(logits) for layer in layers.values() for logits in layer.logits
        ]

    @torch.no_grad()
    def note(self) -> None:
        """Take in the cross-entropy's gradients, which lie on the logits right now."""
        vectors = [logits for layer in self._layers.values() for logits in layer.logits]
        for total, logits in zip(self.sums, vectors, strict=True):
            if logits.grad is not None:
                total -= logits.grad / torch.softmax(logits, 0).clamp_min(_LEAST)
        self.count += 1

    def scores(self) -> dict[str, dict[Precision, float]]:
        """Mean advantage of every candidate; for factorized logits the sum over the two axes."""
        sums = iter(self.sums)
        found = {}
        for site, layer in self._layers.items():
            means = [(next(sums) / max(self.count, 1)).tolist() for _ in layer.logits]
            found[site] = {p: _score(layer, means, p) for p in layer.candidates}
        return found

    def state(self) -> dict[str, int | list[Tensor]]:
        return {"count": self.count, "sums": [total.cpu() for total in self.sums]}

    def restore(self, state: Mapping[str, int | list[Tensor]]) -> None:
        count, sums = state["count"], state["sums"]
        if isinstance(count, int) and isinstance(sums, list):
            self.count = count
            for total, saved in zip(self.sums, sums, strict=True):
                total.copy_(saved)


def axes(layer: SearchLayer, precision: Precision) -> tuple[int, ...]:
    """Index of a candidate in each of the layer's logit vectors."""
    if layer.mode == "joint":
        return (layer.candidates.index(precision),)
    return (
        layer.weight_bits.index(precision.weight_bits),
        layer.act_bits.index(precision.act_bits),
    )


def _score(layer: SearchLayer, means: list[list[float]], precision: Precision) -> float:
    return sum(mean[index] for mean, index in zip(means, axes(layer, precision), strict=True))
