"""The `Dataset` seam: every data set gives pixels and labels by split and row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.spec import Split

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Targets = NDArray[np.int64] | NDArray[np.float32]
Rows = NDArray[np.int64]
Seeds = NDArray[np.uint64]


@runtime_checkable
class Dataset(Protocol):
    """Images of one size, and what a network should say about them.

    Splits: `train` (weights), `search` (held out of the training images, for the logits), `fit`
    (both, for pre-training and fine-tuning), `val` (held out of the training images, for choices)
    and `test`. They are disjoint but for `fit`, and the same on every run.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Literal["classification", "detection"]:
        """Which kind of network can learn from it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or changed when the data were read, a line each; for a warning."""
        ...

    @property
    def workers(self) -> int:
        """How many processes should read it beside the one that asks; 0 where it is in memory."""
        ...

    def size(self, split: Split) -> int:
        """Number of images in a split."""
        ...

    def examples(
        self, split: Split, rows: Rows, seeds: Seeds | None = None
    ) -> tuple[Pixels, Targets]:
        """Images of the given rows of a split, uint8 `[len(rows), C, H, W]`, and their targets:
        class indices int64 `[len(rows)]`, or boxes (see `mpqdeploy.data.detection`).

        With `seeds`, one per row, they are augmented: a seed gives a row the same example in any
        batch, so that processes may share one out. Raises `DataError` for a file that cannot be
        read.
        """
        ...


class Labelled(ABC):
    """One label per image: `examples` of a data set that has `read` and `labels`."""

    kind: Literal["classification", "detection"] = "classification"
    notes: tuple[str, ...] = ()
    workers = 0

    def examples(
        self, split: Split, rows: Rows, seeds: Seeds | None = None
    ) -> tuple[Pixels, Targets]:
        """See `Dataset.examples`."""
        return self.read(split, rows, seeds), self.labels(split)[rows]

    @abstractmethod
    def labels(self, split: Split) -> Labels:
        """Class indices of a split, int64 `[size]`, in row order."""

    @abstractmethod
    def read(self, split: Split, rows: Rows, seeds: Seeds | None = None) -> Pixels:
        """The images alone, uint8 `[len(rows), C, H, W]`."""
