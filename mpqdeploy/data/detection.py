"""`DetectionDataset`: images with boxes, letterboxed to one size when they are read.

Targets are float32 `[N, M, 6]`: left, top, right, bottom in pixels of the letterboxed image, class
index, and 1 for a crowd; rows of class -1 fill an image's boxes up to the batch's largest number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpqdeploy.core import DataError
from mpqdeploy.core.boxes import Boxes, area, clip
from mpqdeploy.core.letterbox import Letterbox
from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.dataset import Pixels, Rows, Seeds, Targets
from mpqdeploy.data.spec import DataSpec, Split
from mpqdeploy.data.splits import held_out_split, require, training_splits

PADDING = -1.0
COLUMNS = 6
ZOOM = (0.75, 1.33)
LEAST_SEEN = 0.25
"""A box of which augmentation leaves less than this share of its area on the image is left out."""

_IMAGENET = Preprocessing(scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

Part = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotated:
    """An image with its objects: boxes `[M, 4]` in its own pixels, class indices `[M]`, crowd
    flags `[M]`; `pixels` decodes it, uint8 `[height, width, 3]`."""

    boxes: Boxes
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    pixels: Callable[[], Pixels]


class DetectionDataset:
    """Annotated images in parts: `train` is cut into splits, `test` is held out, and `val`, where
    there is one, is the val split, so that nothing is cut off `train` for it."""

    kind: Literal["classification", "detection"] = "detection"

    def __init__(
        self,
        *,
        spec: DataSpec,
        classes: tuple[str, ...],
        parts: Mapping[Part, Sequence[Annotated]],
        notes: tuple[str, ...] = (),
        workers: int = 0,
    ) -> None:
        self.name = spec.name
        self.classes = classes
        self.image = (3, spec.size, spec.size)
        self.preprocessing = _IMAGENET.replaced(spec.mean, spec.std)
        self.notes = (*notes, *_unseen(classes, parts["train"]))
        self.workers = workers
        self._spec = spec
        self._parts = parts
        self._splits = _split(parts, spec)

    def size(self, split: Split) -> int:
        return len(self._rows(split))

    def examples(
        self, split: Split, rows: Rows, seeds: Seeds | None = None
    ) -> tuple[Pixels, Targets]:
        """See `Dataset.examples`. Augmentation mirrors, zooms and moves."""
        part = self._parts[self._part(split)]
        drawn: Sequence[int | None] = [None] * len(rows) if seeds is None else seeds.tolist()
        chosen = self._rows(split)[rows]
        read = [
            _example(part[row], self.image[1:], seed)
            for row, seed in zip(chosen, drawn, strict=True)
        ]
        most = max((len(targets) for _, targets in read), default=0)
        targets = np.full((len(read), max(most, 1), COLUMNS), PADDING, np.float32)
        for filled, (_, own) in zip(targets, read, strict=True):
            filled[: len(own)] = own
        images = np.stack([image for image, _ in read])
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), targets

    def _part(self, split: Split) -> Part:
        if split == "test" or (split == "val" and "val" in self._parts):
            return split
        return "train"

    def _rows(self, split: Split) -> Rows:
        return require(split, self._splits[split], self._spec)


def _split(parts: Mapping[Part, Sequence[Annotated]], spec: DataSpec) -> dict[Split, Rows]:
    """Rows of every split within its part. Boxes of all classes share an image, so images are cut
    as if they were of one class."""
    training = np.zeros(len(parts["train"]), np.int64)
    if "val" in parts:
        splits = dict(training_splits(training, replace(spec, val_fraction=0.0)))
        splits["val"] = np.arange(len(parts["val"]), dtype=np.int64)[: spec.limit.get("val")]
    else:
        splits = dict(training_splits(training, spec))
    held_out = np.zeros(len(parts["test"]), np.int64)
    return {**splits, **held_out_split(held_out, spec)}


def _unseen(classes: Sequence[str], training: Sequence[Annotated]) -> tuple[str, ...]:
    """A note where classes have no box to learn from."""
    seen = {int(label) for one in training for label in one.labels}
    missing = [name for index, name in enumerate(classes) if index not in seen]
    if len(missing) == len(classes):
        raise DataError("there are no boxes to train on.", hint="Check the annotations.")
    if not missing:
        return ()
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (f"{len(missing)} of {len(classes)} classes have no box to train on: {shown}",)


def _example(one: Annotated, size: tuple[int, int], seed: int | None) -> tuple[Pixels, Boxes]:
    """The letterboxed image `[H, W, 3]` and its targets `[M, 6]`."""
    pixels, boxes = one.pixels(), one.boxes
    source = (pixels.shape[0], pixels.shape[1])
    if seed is None:
        place = Letterbox.fit(source, size)
    else:
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            pixels, boxes = pixels[:, ::-1], mirrored(boxes, source[1])
        zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
        place = Letterbox.placed(source, size, zoom=zoom, at=(rng.random(), rng.random()))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    resized = np.asarray(picture.resize(place.inner, Image.Resampling.BILINEAR))
    whole = place.to_canvas(boxes)
    seen = clip(whole, *size)
    kept = area(seen) >= LEAST_SEEN * area(whole)
    columns = [np.asarray(part, np.float32) for part in (one.labels, one.crowd)]
    return place.paste(resized), np.column_stack([seen, *columns])[kept]


def mirrored(boxes: Boxes, width: int) -> Boxes:
    """Boxes of an image of `width` pixels, turned left to right with it."""
    turned = boxes.copy()
    turned[:, 0], turned[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return turned
