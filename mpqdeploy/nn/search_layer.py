"""`SearchLayer`: a site with several candidate precisions and one float weight for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.core import Precision
from mpqdeploy.nn.functional import mix_acts
from mpqdeploy.nn.layers import Site, SiteConv2d
from mpqdeploy.nn.quantizers import ActQuant, WeightStats, quantized_weight

Mode = Literal["joint", "factorized"]


class SearchLayer(nn.Module):
    """A mixture over the candidates j = (m_j weight bits, n_j activation bits) of one site.

    `joint` [r]: one softmax over the pairs, output sum_j p_j conv(Q_mj(W), Q_nj(x)). A convolution
    is linear in its weights, so the candidates that share n are summed *before* it: one
    convolution per distinct n, sum_n conv(sum_m p_mn Q_m(W), Q_n(x)), and the same output [o].

    `factorized` [F]: a softmax over weight widths and one over activation widths, output
    conv(sum_m p_m Q_m(W), sum_n p_n Q_n(x)), one convolution. It computes with every pair (m, n),
    and a pair that is no candidate counts as the candidate that can do as much, `_cover` [o].

    No Gumbel noise [r]. A bias is added once, because probabilities sum to 1.
    """

    def __init__(self, site: Site, candidates: Sequence[Precision], mode: Mode) -> None:
        super().__init__()
        self.candidates = tuple(candidates)
        self.mode: Mode = mode
        self.weight = nn.Parameter(site.weight.detach().clone())
        self.bias = None if site.bias is None else nn.Parameter(site.bias.detach().clone())
        self._conv = _conv_options(site) if isinstance(site, SiteConv2d) else None
        self.weight_bits = tuple(dict.fromkeys(c.weight_bits for c in self.candidates))
        self.act_bits = tuple(dict.fromkeys(c.act_bits for c in self.candidates))
        self._pairs = [
            (self.weight_bits.index(c.weight_bits), self.act_bits.index(c.act_bits))
            for c in self.candidates
        ]
        cover = [
            _cover(self.candidates, Precision(weight_bits=m, act_bits=n))
            for m in self.weight_bits
            for n in self.act_bits
        ]
        self._covers: Tensor
        self.register_buffer("_covers", torch.tensor(cover), persistent=False)
        self.acts = nn.ModuleList(ActQuant(bits, site.act_signed) for bits in self.act_bits)
        self.logits: nn.ParameterList = nn.ParameterList(
            nn.Parameter(torch.zeros(size)) for size in self._logit_sizes()
        )

    def _logit_sizes(self) -> tuple[int, ...]:
        if self.mode == "joint":
            return (len(self.candidates),)
        return (len(self.weight_bits), len(self.act_bits))

    def probabilities(self) -> Tensor:
        """p over `candidates`, shape `[J]`, sums to 1.

        In factorized mode p_m p_n summed over the pairs that each candidate stands for: what the
        mixture computes with is what it is charged for [o].
        """
        if self.mode == "joint":
            return torch.softmax(self.logits[0], 0)
        weight_p, act_p = self.distributions()
        chances = torch.outer(weight_p, act_p).flatten()
        return chances.new_zeros(len(self.candidates)).index_add(0, self._covers, chances)

    def distributions(self) -> list[Tensor]:
        """The softmax of each logit vector: all one-hot where the mixture is a single pair."""
        return [torch.softmax(logits, 0) for logits in self.logits]

    @torch.no_grad()
    def set_probabilities_(self, probabilities: Tensor) -> None:
        """Set the logits so that `probabilities()` is the given `[J]`, all entries positive.

        Factorized logits can only take its marginals: there it holds as far as those go.
        """
        if self.mode == "joint":
            self.logits[0].copy_(probabilities.log())
            return
        for axis, logits in enumerate(self.logits):
            marginal = torch.zeros_like(logits)
            for pair, chance in zip(self._pairs, probabilities, strict=True):
                marginal[pair[axis]] += chance
            logits.copy_(marginal.log())

    def chosen(self) -> Precision:
        """The candidate at the distributions' peaks; the first of equals."""
        peaks = [int(logits.argmax()) for logits in self.logits]
        if self.mode == "joint":
            return self.candidates[peaks[0]]
        return self.candidates[int(self._covers[peaks[0] * len(self.act_bits) + peaks[1]])]

    def forward(self, x: Tensor) -> Tensor:
        stats = WeightStats(self.weight)
        weights = [quantized_weight(self.weight, bits, stats) for bits in self.weight_bits]
        if len(self.candidates) == 1:
            return self._product(self._act(0, x), weights[0], self.bias)
        if self.mode == "joint":
            return self._joint(x, weights)
        weight_p, act_p = self.distributions()
        return self._product(self._mixed_acts(x, act_p), _mix(weights, weight_p), self.bias)

    def _joint(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        p = torch.softmax(self.logits[0], 0)
        terms: list[Tensor] = []
        for n in range(len(self.act_bits)):
            group = [(m, j) for j, (m, of_pair) in enumerate(self._pairs) if of_pair == n]
            weight = _mix([weights[m] for m, _ in group], p[[j for _, j in group]])
            bias = None if terms else self.bias
            terms.append(self._product(self._act(n, x), weight, bias))
        return sum(terms[1:], start=terms[0])

    def _act(self, index: int, x: Tensor) -> Tensor:
        quantized: Tensor = self.acts[index].quantize(x)  # type: ignore[operator]
        return quantized

    def _mixed_acts(self, x: Tensor, chances: Tensor) -> Tensor:
        quantizers = [act for act in self.acts if isinstance(act, ActQuant)]
        for quantizer in quantizers:
            if quantizer.observer is not None:
                quantizer.observer(x.detach())
        if any(quantizer.observer is not None for quantizer in quantizers):
            return x
        scales = torch.stack([quantizer.scale for quantizer in quantizers])
        return mix_acts(x, scales, chances, [quantizer.codes for quantizer in quantizers])

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._conv is None:
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, **self._conv)


def _cover(candidates: Sequence[Precision], pair: Precision) -> int:
    """Index of the candidate that a pair stands for: itself, or the one that can do as much.

    That is the cheapest in bit operations of those as wide on both sides; where there is none, the
    one that lacks the fewest bits.
    """

    def distance(candidate: Precision) -> tuple[int, int]:
        missing = max(0, pair.weight_bits - candidate.weight_bits)
        missing += max(0, pair.act_bits - candidate.act_bits)
        return missing, candidate.weight_bits * candidate.act_bits

    return min(range(len(candidates)), key=lambda j: distance(candidates[j]))


def _mix(values: Sequence[Tensor], chances: Tensor) -> Tensor:
    """sum_i chances[i] * values[i]."""
    terms = [chance * value for chance, value in zip(chances.unbind(), values, strict=True)]
    return sum(terms[1:], start=terms[0])


def _conv_options(site: SiteConv2d) -> dict[str, Any]:
    return {
        "stride": site.stride,
        "padding": site.padding,
        "dilation": site.dilation,
        "groups": site.groups,
    }
