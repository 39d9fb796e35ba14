"""Distribution reshaping: Scale-Clip, GDRQ (arXiv 1908.01477) as BP-NAS uses it [r]."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from brevitas.nn import QuantConv2d, QuantLinear
from torch import nn

from mpqdeploy.nn.layers import SiteConv2d, SiteLinear
from mpqdeploy.nn.search_layer import SearchLayer

K_WEIGHTS = 2.0  # a uniform law on [-T, T] has mean|W| = T/2: k = 2 is its fixed point [r]


@torch.no_grad()
def scale_clip_(net: nn.Module, k: float = K_WEIGHTS, *, skip: Iterable[str] = ()) -> None:
    """W <- clip(W, -T, T) with T = k mean|W| over the layer, for every site, in place [r].

    To be called after each optimizer step; works on the float, searchable and quantized forms.
    `skip`: names of sites to leave alone, for instance those pinned at 8 bits.
    """
    left_alone = set(skip)
    for name, module in net.named_modules():
        if name in left_alone:
            continue
        if isinstance(module, SiteConv2d | SiteLinear | SearchLayer | QuantConv2d | QuantLinear):
            threshold = k * module.weight.abs().mean()
            module.weight.clamp_(-threshold, threshold)
