"""Top-1 accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mpqdeploy.core import DataError
from mpqdeploy.nn.training.device import home, pick_device

Batch = tuple[Tensor, Tensor]


def evaluate(net: nn.Module, batches: Iterable[Batch], *, device: str = "auto") -> float:
    """Share of images whose greatest output is their label's, in [0, 1], in float32.

    The network's mode and device are as before when this returns. Raises `DataError` for no
    batches at all.
    """
    right = seen = 0
    with evaluating(net, device) as place, torch.inference_mode():
        for images, labels in batches:
            outputs = net(images.to(place))
            right += int((outputs.argmax(1) == labels.to(place)).sum())
            seen += len(labels)
    if not seen:
        raise DataError("there are no images to evaluate on.", hint="Check the split's limit.")
    return right / seen


@contextmanager
def evaluating(net: nn.Module, device: str = "auto") -> Iterator[torch.device]:
    """The network in evaluation mode on a device; back to its mode and device afterwards."""
    place, before, mode = pick_device(device), home(net), net.training
    net.to(place).eval()
    try:
        yield place
    finally:
        net.to(before).train(mode)
