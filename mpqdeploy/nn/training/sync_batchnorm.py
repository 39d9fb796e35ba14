"""BatchNorm over the batch of all processes, on CUDA and on CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


class CpuSyncBatchNorm(_BatchNorm):
    """`nn.SyncBatchNorm`, which runs on CUDA alone, from all-reduces.

    Every process has as many elements as any other: a shard's are equal.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"a batch of at least two axes is needed, not {x.dim()}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        axes = (0, *range(2, x.dim()))
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        mean = _mean_of_all(x.mean(axes))
        centred = x - mean.view(shape)
        variance = _mean_of_all(centred.square().mean(axes))
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as torch does: with the unbiased variance."""
        if self.running_mean is None or self.running_var is None:
            return
        total = count * distributed.get_world_size()
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * total / max(total - 1, 1), share)


@contextmanager
def synchronised(net: nn.Module) -> Iterator[None]:
    """Every BatchNorm of `net` over all processes while the block runs; in place, by name.

    Parameters and buffers stay the same objects, so optimizers keep theirs.
    """
    plain = [(n, m) for n, m in net.named_modules() if isinstance(m, _BatchNorm)]
    for name, layer in plain:
        net.set_submodule(name, _over_all(layer))
    try:
        yield
    finally:
        for name, layer in plain:
            layer.train(net.get_submodule(name).training)
            net.set_submodule(name, layer)


def _over_all(layer: _BatchNorm) -> _BatchNorm:
    place = next(iter(layer.buffers()), torch.zeros(())).device
    kind = nn.SyncBatchNorm if place.type == "cuda" else CpuSyncBatchNorm
    made = kind(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    made._parameters, made._buffers = layer._parameters, layer._buffers
    return made.train(layer.training)


class _MeanOfAll(Function):
    """The mean over all processes; what another one makes of a value counts in its gradient too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _averaged(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _averaged(grads[0])


def _averaged(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _mean_of_all(value: Tensor) -> Tensor:
    mean: Tensor = _MeanOfAll.apply(value)  # type: ignore[no-untyped-call]
    return mean
