"""The `Dataset` seam: every data set gives pixels and labels by split and row."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.spec import Split

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]


@runtime_checkable
class Dataset(Protocol):
    """Images of one size with one label each.

    Splits: `train` (weights), `search` (held out of the training images, for the logits), `fit`
    (both, for pre-training and fine-tuning), `val` (held out of the training images, for choices)
    and `test`. They are disjoint but for `fit`, and the same on every run.
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    def size(self, split: Split) -> int:
        """Number of images in a split."""
        ...

    def labels(self, split: Split) -> Labels:
        """Class indices of a split, int64 `[size]`, in row order."""
        ...

    def read(self, split: Split, rows: Rows, rng: np.random.Generator | None = None) -> Pixels:
        """Images of the given rows of a split, uint8 `[len(rows), C, H, W]`.

        With `rng`, they are augmented: the same generator state gives the same images.
        Raises `DataError` for a file that cannot be read.
        """
        ...
