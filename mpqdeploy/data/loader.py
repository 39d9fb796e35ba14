"""`Loader`: batches of normalised tensors, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpqdeploy.core.shard import WHOLE, Shard
from mpqdeploy.data.augment import image_seeds
from mpqdeploy.data.dataset import Dataset, Rows
from mpqdeploy.data.spec import Split
from mpqdeploy.data.workers import Batch, Order, read, read_ahead

_ORDER = 0
"""Keeps the shuffle's random numbers apart from the augmentation's."""


class Loader:
    """Batches `(images, targets)`: float32 `[N, C, H, W]` normalised, and what the data set says
    about them: class indices int64 `[N]`, or boxes.

    `epoch(e)` gives the same batches whenever it is called, in this run or in one that resumed: the
    shuffle is seeded by (seed, e), an image's augmentation by (seed, e, row). So neither the number
    of workers nor that of processes changes what is read: with a `shard`, a process gets its part
    of every batch, and `batch_size` stays that of all of them together. Iterating over the loader
    itself gives epoch 0, which is what evaluation needs.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        shard: Shard = WHOLE,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = augment
        self.shard = shard
        size = dataset.size(split)
        # A split smaller than one batch still makes one.
        whole = batch_size if size >= batch_size else shard.count
        self.rows = size - size % whole if drop_last else size
        self._size = size

    @classmethod
    def training(
        cls, dataset: Dataset, split: Split, *, batch_size: int, seed: int = 0, shard: Shard = WHOLE
    ) -> Loader:
        """Shuffled, augmented, whole batches only."""
        return cls(
            dataset,
            split,
            batch_size=batch_size,
            seed=seed,
            shuffle=True,
            augment=True,
            drop_last=True,
            shard=shard,
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch.

        Raises `DataError` for a file that cannot be read, `ConfigError` for a batch that cannot be
        cut into equal parts.
        """
        rows = self._order(epoch)
        starts = range(0, self.rows, self.batch_size)
        orders = [self._shared(rows[start : start + self.batch_size], epoch) for start in starts]
        if self.dataset.workers and orders:
            yield from read_ahead(self.dataset, self.split, orders)
        else:
            for order in orders:
                yield read(self.dataset, self.split, order)

    def _order(self, epoch: int) -> Rows:
        if not self.shuffle:
            return np.arange(self.rows, dtype=np.int64)
        rng = np.random.default_rng([self.seed, epoch, _ORDER])
        return rng.permutation(self._size)[: self.rows].astype(np.int64)

    def _shared(self, rows: Rows, epoch: int) -> Order:
        own = self.shard.of(rows)
        return Order(own, image_seeds(self.seed, epoch, own) if self.augment else None)
