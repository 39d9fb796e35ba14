"""`World`: the processes that train one network together.

Every process runs the same steps on its own part of each batch; gradients, BatchNorm statistics and
losses are means over all of them, so that the network is at every step that of one process with
the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from mpqdeploy.core.shard import Shard

T = TypeVar("T")


class World:
    """A process on its own: what it would hear from others is what it knows."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes, measures and prints."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """This process's part of every batch."""
        return Shard(rank=self.rank, count=self.size)

    def shared(self, value: T) -> T:
        """The leader's value, in every process; what the others give does not count.

        It has to pickle. Nobody goes on before the leader has spoken, however long that takes.
        """
        return value

    def tell(self, job: object) -> None:
        """The leader's next word to those who `hear`; None is its last. Nothing where alone."""

    def hear(self) -> Any:
        """What the leader tells next; None where there is no more, or no leader any more."""
        return None

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes, without a gradient."""
        return value.detach()

    @contextmanager
    def together(self, net: nn.Module, *, freezing: bool = False) -> Iterator[nn.Module]:
        """`net` for the forward passes of training: their gradients are means over all processes.

        Meanwhile BatchNorm's statistics are those of the whole batch. With `freezing`, parameters
        may be frozen from step to step, by all processes alike.
        """
        yield net


ALONE = World()


def is_leader() -> bool:
    """Whether torchrun made this process the leader, or nobody started it; joins nothing."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """The world that torchrun started this process in; `ALONE` where nobody did.

    Raises `ConfigError` where the optional dependency for it is missing, or the devices are.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    from mpqdeploy.nn.training.processes import Processes  # its dependency is optional

    world = Processes(device)
    try:
        yield world
    finally:
        world.leave()
