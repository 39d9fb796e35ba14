"""`Processes`: a `World` of several, started by torchrun and set up by Lightning Fabric."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mpqdeploy.core import ConfigError
from mpqdeploy.nn.training.device import home, pick_device
from mpqdeploy.nn.training.sync_batchnorm import synchronised
from mpqdeploy.nn.training.world import World

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""The others wait while the leader compiles and measures; one that dies is torchrun's to notice."""


class Processes(World):
    """Collectives over NCCL between GPUs and over gloo between CPUs."""

    def __init__(self, device: str) -> None:
        """Joins the others; all of them have to. Raises `ConfigError`."""
        try:
            from lightning_fabric import Fabric
        except ImportError as error:
            raise ConfigError(
                "several processes need lightning-fabric, which is not installed.",
                hint='Install it: pip install "mpqdeploy[distributed]"',
            ) from error
        size, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        kind = pick_device(device).type
        if kind == "cuda" and torch.cuda.device_count() < local:
            raise ConfigError(
                f"there are {local} processes and {torch.cuda.device_count()} GPUs here.",
                hint="Give torchrun --nproc-per-node the number of GPUs, or set device=cpu.",
            )
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        # Said of every 1x1 kernel, whose strides mean the same in either layout.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        self._fabric = Fabric(
            accelerator=kind, devices=local, num_nodes=size // local, strategy="ddp"
        )
        self._fabric.launch()
        self.rank, self.size = self._fabric.global_rank, self._fabric.world_size
        # Waiting for the leader must not spin, or it would disturb what the leader measures: gloo
        # sleeps, NCCL keeps a core and a GPU busy.
        self._control = distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def tell(self, job: object) -> None:
        self.shared(job)

    def hear(self) -> Any:
        try:
            return self.shared(None)
        except RuntimeError:
            return None  # the leader ended with an error, which it reports itself

    def shared(self, value: T) -> T:
        box = [value if self.leads else None]
        distributed.broadcast_object_list(box, src=0, group=self._control)
        return box[0]  # type: ignore[return-value]

    def mean(self, value: Tensor) -> Tensor:
        return cast(Tensor, self._fabric.all_reduce(value.detach(), reduce_op="mean"))

    @contextmanager
    def together(self, net: nn.Module, *, freezing: bool = False) -> Iterator[nn.Module]:
        place = home(net)
        with synchronised(net):
            yield DistributedDataParallel(
                net,
                device_ids=[place] if place.type == "cuda" else None,
                find_unused_parameters=freezing,
                forward_sync_buffers=False,  # they are the same already
            )

    def leave(self) -> None:
        """Take leave of the others."""
        distributed.destroy_process_group()
