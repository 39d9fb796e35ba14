"""Zeros added to the inputs of sites: leaves to differentiate activations by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mpqdeploy.nn.layers import named_sites


class Taps:
    """What one forward pass showed of every site: its inputs, and the zeros added to them.

    A site that runs several times per pass (a shared head) has one of each per run.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        self.zeros: dict[str, list[Tensor]] = {}

    def add(self, site: str, x: Tensor) -> Tensor:
        zeros = torch.zeros_like(x, requires_grad=True)
        self.inputs.setdefault(site, []).append(x.detach())
        self.zeros.setdefault(site, []).append(zeros)
        return x + zeros


@contextmanager
def tapped(net: nn.Module) -> Iterator[Taps]:
    """Tap every site of a network in float form, for one forward pass."""
    taps = Taps()
    hooks = [
        module.register_forward_pre_hook(_tap(taps, name)) for name, module in named_sites(net)
    ]
    try:
        yield taps
    finally:
        for hook in hooks:
            hook.remove()


def _tap(taps: Taps, site: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, args: (taps.add(site, args[0]), *args[1:])
