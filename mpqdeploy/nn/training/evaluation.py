"""The score of a network on a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mpqdeploy.nn.task import task_of
from mpqdeploy.nn.training.device import home, pick_device

Batch = tuple[Tensor, Tensor]


def evaluate(net: nn.Module, batches: Iterable[Batch], *, device: str = "auto") -> float:
    """The score of the network's task, in [0, 1]: top-1 of a classifier; in float32.

    The network's mode and device are as before when this returns. Raises `DataError` for no
    batches at all.
    """
    scorer = task_of(net).scorer()
    with evaluating(net, device) as place, torch.inference_mode():
        for images, targets in batches:
            scorer.add(net(images.to(place)), targets)
    return scorer.score()


@contextmanager
def evaluating(net: nn.Module, device: str = "auto") -> Iterator[torch.device]:
    """The network in evaluation mode on a device; back to its mode and device afterwards."""
    place, before, mode = pick_device(device), home(net), net.training
    net.to(place).eval()
    try:
        yield place
    finally:
        net.to(before).train(mode)
