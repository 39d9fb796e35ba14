"""`Loader`: batches of normalised tensors, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mpqdeploy.data.dataset import Dataset, Rows
from mpqdeploy.data.spec import Split

_ORDER, _AUGMENTATION = 0, 1
"""Keys that keep the two streams of random numbers of an epoch apart."""


class Loader:
    """Batches `(images, targets)`: float32 `[N, C, H, W]` normalised, and what the data set says
    about them: class indices int64 `[N]`, or boxes.

    `epoch(e)` gives the same batches whenever it is called, in this run or in one that resumed:
    the shuffle is seeded by (seed, e), the augmentation by (seed, e, step). Iterating over the
    loader itself gives epoch 0, which is what evaluation needs.
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
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = augment
        size = dataset.size(split)
        # A split smaller than one batch still makes one.
        self.rows = size - size % batch_size if drop_last and size >= batch_size else size
        self._size = size

    @classmethod
    def training(cls, dataset: Dataset, split: Split, *, batch_size: int, seed: int = 0) -> Loader:
        """Shuffled, augmented, whole batches only."""
        return cls(
            dataset,
            split,
            batch_size=batch_size,
            seed=seed,
            shuffle=True,
            augment=True,
            drop_last=True,
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.epoch(0)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch. Raises `DataError` for a file that cannot be read."""
        order = self._order(epoch)
        for step in range(len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self._batch(rows, epoch, step)

    def _order(self, epoch: int) -> Rows:
        if not self.shuffle:
            return np.arange(self.rows, dtype=np.int64)
        rng = np.random.default_rng([self.seed, epoch, _ORDER])
        return rng.permutation(self._size)[: self.rows].astype(np.int64)

    def _batch(self, rows: Rows, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        rng = None
        if self.augment:
            rng = np.random.default_rng([self.seed, epoch, _AUGMENTATION, step])
        pixels, targets = self.dataset.examples(self.split, rows, rng)
        images = self.dataset.preprocessing.apply(pixels)
        return torch.from_numpy(images), torch.from_numpy(targets)
