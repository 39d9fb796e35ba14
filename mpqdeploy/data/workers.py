"""Processes that read batches ahead of the one that computes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mpqdeploy.core import DataError, UserError
from mpqdeploy.data.dataset import Dataset, Rows, Seeds
from mpqdeploy.data.spec import Split

_MOST = 8
_AHEAD = 2  # batches per worker


class Order(NamedTuple):
    """What makes a batch: rows of a split, and a seed for each where they are augmented."""

    rows: Rows
    seeds: Seeds | None


Batch = tuple[Tensor, Tensor]


def spare_cores() -> int:
    """Workers for each process that trains here: the machine's cores shared out, at most 8."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's: its processes on this machine
    return min(_MOST, max(1, len(os.sched_getaffinity(0)) // here))


def read(dataset: Dataset, split: Split, order: Order) -> Batch:
    """One batch, normalised. Raises `DataError` for a file that cannot be read."""
    pixels, targets = dataset.examples(split, order.rows, order.seeds)
    return torch.from_numpy(dataset.preprocessing.apply(pixels)), torch.from_numpy(targets)


def read_ahead(dataset: Dataset, split: Split, orders: Sequence[Order]) -> Iterator[Batch]:
    """The batches of `orders`, in that order whoever reads them; `dataset.workers` is at least 1.

    Raises `DataError` for a file that cannot be read, and where a worker dies.
    """
    loader: DataLoader[Batch | UserError] = DataLoader(
        _Reader(dataset, split),
        batch_size=None,
        sampler=orders,
        num_workers=min(dataset.workers, len(orders)),
        prefetch_factor=_AHEAD,
        pin_memory=torch.cuda.is_available(),
    )
    try:
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that reads images died: it was killed, or there was no shared memory left.",
            hint="Set data.workers to a smaller number, or to 0; or give /dev/shm more room.",
        ) from error


class _Reader(TorchDataset[Batch | UserError]):
    """Runs in the workers; an error comes back as a value, or torch would wrap its text."""

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self._dataset = dataset
        self._split = split

    def __getitem__(self, order: Order) -> Batch | UserError:
        try:
            return read(self._dataset, self._split, order)
        except UserError as error:
            return error
