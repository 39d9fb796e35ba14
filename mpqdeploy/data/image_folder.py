"""`ImageFolder`: `train/<class>/*` and `val/<class>/*`, decoded when they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import DataError
from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.dataset import Labelled, Labels, Pixels, Rows, Seeds
from mpqdeploy.data.pictures import decoded
from mpqdeploy.data.spec import DataSpec, Split
from mpqdeploy.data.splits import held_out_split, require, training_splits
from mpqdeploy.data.transforms import evaluation_view, training_view
from mpqdeploy.data.workers import spare_cores

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_RESIZE = 256 / 224
"""Evaluation: the shorter side becomes this times the crop's side [F]."""

_IMAGENET = Preprocessing(scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Files:
    """The images of one part. Names are one array of bytes: a list of a million paths would be
    copied, page by page, into every process that counts references to them."""

    folder: Path
    classes: tuple[str, ...]
    names: NDArray[np.bytes_]
    labels: Labels

    def path(self, row: int) -> Path:
        name = os.fsdecode(bytes(self.names[row]))
        return self.folder / self.classes[int(self.labels[row])] / name


class ImageFolder(Labelled):
    """Class names are the sorted folder names of `train/`; `val/` is the test split.

    Evaluation resizes and crops the centre; training crops at random and mirrors (`transforms`).
    Images are RGB, `size` x `size`. No more than the batches at hand are ever in memory.
    """

    def __init__(self, spec: DataSpec) -> None:
        """Lists the files and decodes none. Raises `DataError` that names the folder."""
        if spec.dir is None:
            raise DataError(
                "data.dir is not set: imagefolder is read from a local folder.",
                hint="Set data.dir to the folder with train/<class>/ and val/<class>/.",
            )
        self.name = spec.name
        self.image = (3, spec.size, spec.size)
        self.preprocessing = _IMAGENET.replaced(spec.mean, spec.std)
        self.workers = spare_cores() if spec.workers is None else spec.workers
        self._spec = spec
        self._resize = spec.resize or round(spec.size * _RESIZE)
        training, held_out = spec.dir / "train", spec.dir / "val"
        self.classes = _class_folders(training)
        _same_classes(held_out, self.classes)
        self._training = _list(training, self.classes)
        self._held_out = _list(held_out, self.classes)

    def size(self, split: Split) -> int:
        return len(self._rows(split))

    def labels(self, split: Split) -> Labels:
        return self._pool(split).labels[self._rows(split)]

    def read(self, split: Split, rows: Rows, seeds: Seeds | None = None) -> Pixels:
        files, chosen = self._pool(split), self._rows(split)[rows]
        drawn = [None] * len(chosen) if seeds is None else seeds.tolist()
        views = [self._view(files.path(row), seed) for row, seed in zip(chosen, drawn, strict=True)]
        return np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2))

    def _view(self, path: Path, seed: int | None) -> Pixels:
        """One image, uint8 `[size, size, 3]`."""
        picture, side = decoded(path), self._spec.size
        if seed is None:
            view = evaluation_view(picture, side, self._resize)
        else:
            rng = np.random.default_rng(seed)
            view = training_view(picture, side, self._spec.jitter, rng)
        return np.asarray(view, dtype=np.uint8)

    def _rows(self, split: Split) -> Rows:
        splits = self._test_splits if split == "test" else self._training_splits
        return require(split, splits[split], self._spec)

    def _pool(self, split: Split) -> _Files:
        return self._held_out if split == "test" else self._training

    @cached_property
    def _training_splits(self) -> dict[Split, Rows]:
        return dict(training_splits(self._training.labels, self._spec))

    @cached_property
    def _test_splits(self) -> dict[Split, Rows]:
        return dict(held_out_split(self._held_out.labels, self._spec))


def _class_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder.",
            hint="An image folder has train/<class>/ and val/<class>/.",
        )
    hidden = "."
    names = (p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(hidden))
    classes = tuple(sorted(names))
    if not classes:
        raise DataError(f"{folder}: there are no class folders in it.", hint="Make one per class.")
    return classes


def _same_classes(folder: Path, classes: tuple[str, ...]) -> None:
    different = sorted(set(_class_folders(folder)) ^ set(classes))
    if different:
        raise DataError(
            f"{folder.parent}: class {different[0]!r} is in only one of train/ and val/.",
            hint="Both need the same class folders.",
        )


def _list(folder: Path, classes: Sequence[str]) -> _Files:
    names: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        with os.scandir(folder / name) as entries:
            files = (entry.name for entry in entries)
            found = sorted(file for file in files if file.lower().endswith(_SUFFIXES))
        if not found:
            raise DataError(
                f"{folder / name}: the class has no images.",
                hint=f"Add some ({', '.join(_SUFFIXES)}) or remove the class folder.",
            )
        names += [os.fsencode(file) for file in found]
        labels += [label] * len(found)
    return _Files(
        folder=folder,
        classes=tuple(classes),
        names=np.array(names),
        labels=np.array(labels, dtype=np.int64),
    )
