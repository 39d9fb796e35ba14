"""Statistics of BatchNorm taken anew, after weights or precisions changed without training."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpqdeploy.nn.training.device import home
from mpqdeploy.nn.training.evaluation import Batch


def recalibrate_batchnorm(net: nn.Module, batches: Iterable[Batch], *, limit: int = 20) -> None:
    """Replace running means and variances by the average over the first `limit` batches.

    Only the BatchNorm layers are in training mode meanwhile: quantizers keep their scales.
    """
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    mode, momenta = net.training, [layer.momentum for layer in layers]
    net.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's sign for a plain average over all batches
        layer.train()
    place = home(net)
    try:
        with torch.no_grad():
            for images, _ in islice(batches, limit):
                net(images.to(place))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        net.train(mode)
