"""`ArrayDataset`: a data set that fits in memory as uint8."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.dataset import Labelled, Labels, Pixels, Rows, Seeds
from mpqdeploy.data.spec import DataSpec, Split
from mpqdeploy.data.splits import held_out_split, require, training_splits

Pool = tuple[Pixels, Labels]
"""Pixels `[N, C, H, W]` and labels `[N]`."""

Augmentation = Callable[[Pixels, Seeds], Pixels]


class ArrayDataset(Labelled):
    """Two pools, training and test images, each read when first needed."""

    def __init__(
        self,
        *,
        spec: DataSpec,
        classes: tuple[str, ...],
        image: tuple[int, int, int],
        preprocessing: Preprocessing,
        training: Callable[[], Pool],
        held_out: Callable[[], Pool],
        augmentation: Augmentation,
    ) -> None:
        self.name = spec.name
        self.classes = classes
        self.image = image
        self.preprocessing = preprocessing.replaced(spec.mean, spec.std)
        self._spec = spec
        self._read_training = training
        self._read_held_out = held_out
        self._augmentation = augmentation

    def size(self, split: Split) -> int:
        return len(self._rows(split))

    def labels(self, split: Split) -> Labels:
        return self._pool(split)[1][self._rows(split)]

    def read(self, split: Split, rows: Rows, seeds: Seeds | None = None) -> Pixels:
        pixels = self._pool(split)[0][self._rows(split)[rows]]
        return pixels if seeds is None else self._augmentation(pixels, seeds)

    def _rows(self, split: Split) -> Rows:
        splits = self._test_splits if split == "test" else self._training_splits
        return require(split, splits[split], self._spec)

    def _pool(self, split: Split) -> Pool:
        return self._held_out if split == "test" else self._training

    @cached_property
    def _training(self) -> Pool:
        return self._read_training()

    @cached_property
    def _held_out(self) -> Pool:
        return self._read_held_out()

    @cached_property
    def _training_splits(self) -> dict[Split, Rows]:
        return dict(training_splits(self._training[1], self._spec))

    @cached_property
    def _test_splits(self) -> dict[Split, Rows]:
        return dict(held_out_split(self._held_out[1], self._spec))
