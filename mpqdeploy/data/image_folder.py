"""`ImageFolder`: `train/<class>/*` and `val/<class>/*`, decoded when they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mpqdeploy.core import DataError
from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.dataset import Labelled, Labels, Pixels, Rows
from mpqdeploy.data.spec import DataSpec, Split
from mpqdeploy.data.splits import held_out_split, require, training_splits

_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_DECODERS = 4
_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10
_RESIZE = 256 / 224
"""Evaluation: the shorter side becomes this times the crop's side [F]."""

_IMAGENET = Preprocessing(scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class ImageFolder(Labelled):
    """Class names are the sorted folder names of `train/`; `val/` is the test split.

    Evaluation resizes and crops the centre; training crops at random (area 8% to 100%, aspect
    3/4 to 4/3) and mirrors, as is standard for ImageNet [F]. Images are RGB, `size` x `size`.
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
        self._spec = spec
        training, held_out = spec.dir / "train", spec.dir / "val"
        self.classes = _class_folders(training)
        _same_classes(held_out, self.classes)
        self._training = _list(training, self.classes)
        self._held_out = _list(held_out, self.classes)

    def size(self, split: Split) -> int:
        return len(self._rows(split))

    def labels(self, split: Split) -> Labels:
        return self._pool(split)[1][self._rows(split)]

    def read(self, split: Split, rows: Rows, rng: np.random.Generator | None = None) -> Pixels:
        files = self._pool(split)[0]
        chosen = [files[row] for row in self._rows(split)[rows]]
        # Each image draws from its own generator, so threads cannot change what it gets.
        seeds = [None] * len(chosen) if rng is None else rng.integers(1 << 62, size=len(chosen))
        side = self.image[1]
        with ThreadPoolExecutor(max_workers=_DECODERS) as workers:
            images = list(workers.map(lambda f, s: _decode(f, s, side), chosen, seeds))
        return np.stack(images)

    def _rows(self, split: Split) -> Rows:
        splits = self._test_splits if split == "test" else self._training_splits
        return require(split, splits[split], self._spec)

    def _pool(self, split: Split) -> tuple[list[Path], Labels]:
        return self._held_out if split == "test" else self._training

    @cached_property
    def _training_splits(self) -> dict[Split, Rows]:
        return dict(training_splits(self._training[1], self._spec))

    @cached_property
    def _test_splits(self) -> dict[Split, Rows]:
        return dict(held_out_split(self._held_out[1], self._spec))


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


def _list(folder: Path, classes: Sequence[str]) -> tuple[list[Path], Labels]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise DataError(
                f"{folder / name}: the class has no images.",
                hint=f"Add some ({', '.join(sorted(_SUFFIXES))}) or remove the class folder.",
            )
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def _decode(path: Path, seed: int | None, side: int) -> Pixels:
    """One image, uint8 `[3, side, side]`."""
    try:
        with Image.open(path) as source:
            picture = source.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded ({error}).", hint="Replace the image or remove it."
        ) from error
    if seed is None:
        picture = _centre(picture, side)
    else:
        picture = _random_crop(picture, side, np.random.default_rng(seed))
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def _centre(picture: Image.Image, side: int) -> Image.Image:
    width, height = picture.size
    zoom = side * _RESIZE / min(width, height)
    # Resizing the box that the crop would leave saves a pass over what it would cut away.
    edge = side / zoom
    left, top = (width - edge) / 2, (height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=box)


def _random_crop(picture: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    width, height = picture.size
    box = (0, 0, width, height)
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(*_CROP_AREA)
        ratio = math.exp(rng.uniform(math.log(_CROP_RATIO[0]), math.log(_CROP_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(0, width - wide + 1))
            top = int(rng.integers(0, height - high + 1))
            box = (left, top, left + wide, top + high)
            break
    cropped = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
    mirrored = rng.random() < 0.5
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cropped
