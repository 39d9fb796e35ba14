"""What a one-stage detector's outputs mean: anchors, decoding, letterboxing; plain numpy.

The formulas are those of RetinaNet (Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object
Detection, 2017, arXiv 1708.02002), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.boxes import Boxes, clip, decode, suppress

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The reference boxes of a feature pyramid on an image of `image` = (height, width) pixels.

    Level l has a cell every `strides[l]` pixels, with `octaves` x `len(ratios)` anchors of sides
    `size` * stride * 2^(o / octaves), o = 0, 1, ..., and height over width as in `ratios`. The
    paper has size 4, 3 octaves, ratios 1/2, 1, 2.
    """

    image: tuple[int, int]
    strides: tuple[int, ...]
    size: float = 4.0
    octaves: int = 3
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    @property
    def per_cell(self) -> int:
        return self.octaves * len(self.ratios)

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every level's feature map: convolutions of stride 2 round up."""
        height, width = self.image
        return tuple((-(-height // stride), -(-width // stride)) for stride in self.strides)

    @cached_property
    def boxes(self) -> Boxes:
        """All anchors `[A, 4]`: by level, then row, column, octave, ratio."""
        levels = zip(self.strides, self.maps, strict=True)
        return np.concatenate(
            [self._level(stride, rows, columns) for stride, (rows, columns) in levels]
        )

    def _level(self, stride: int, rows: int, columns: int) -> Boxes:
        sides = self.size * stride * 2.0 ** (np.arange(self.octaves) / self.octaves)
        roots = np.sqrt(np.array(self.ratios))
        widths = (sides[:, None] / roots).reshape(-1)
        heights = (sides[:, None] * roots).reshape(-1)
        half = np.stack([-widths, -heights, widths, heights], axis=1) / 2
        y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
        centres = np.stack([x, y, x, y], axis=-1)[:, :, None] * stride
        return np.asarray((centres + half).reshape(-1, 4), np.float32)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Anchors:
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**fields)


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """What was found on one image: boxes `[D, 4]` in its pixels, scores `[D]` in [0, 1], class
    indices `[D]`; by falling score."""

    boxes: Boxes
    scores: Floats
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def at_least(self, score: float) -> Detections:
        """Those of at least this score."""
        return self[self.scores >= score]

    def __getitem__(self, chosen: NDArray[Any]) -> Detections:
        return Detections(
            boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen]
        )


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """From a detector's outputs to detections.

    Outputs, per level: class logits `[N, A * K, H, W]` (A anchors per cell, K classes, a class per
    sigmoid), then per level: deltas `[N, A * 4, H, W]`. At most `candidates` scores above
    `score_threshold` of each level are decoded, the best first; boxes of a class that overlap by
    more than `iou_threshold` lose to the best of them; `limit` detections stay (section 4.1).
    """

    anchors: Anchors
    classes: tuple[str, ...]
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    candidates: int = 1000
    limit: int = 100

    def __call__(self, outputs: Sequence[Floats]) -> list[Detections]:
        """One entry per image; boxes in pixels of the network's image, clipped to it."""
        levels = len(self.anchors.strides)
        return [
            self._image(
                [array[index] for array in outputs[:levels]],
                [array[index] for array in outputs[levels:]],
            )
            for index in range(len(outputs[0]))
        ]

    def _image(self, logits: Sequence[Floats], deltas: Sequence[Floats]) -> Detections:
        start = 0
        parts = []
        for level_logits, level_deltas in zip(logits, deltas, strict=True):
            scores = by_anchor(level_logits, self.anchors.per_cell)
            boxes = by_anchor(level_deltas, self.anchors.per_cell)
            parts.append(self._level(scores, boxes, self.anchors.boxes[start : start + len(boxes)]))
            start += len(boxes)
        found = Detections(
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
        )
        kept = suppress(found.boxes, found.scores, found.labels, self.iou_threshold)
        return found[kept[: self.limit]]

    def _level(self, logits: Floats, deltas: Floats, anchors: Boxes) -> Detections:
        """The best candidates of one level: logits `[A, K]`, deltas and anchors `[A, 4]`."""
        least = np.log(self.score_threshold / (1 - self.score_threshold))
        rows, labels = np.nonzero(logits > least)
        found = logits[rows, labels]
        best = np.argsort(-found, kind="stable")[: self.candidates]
        rows, labels = rows[best], labels[best]
        boxes = clip(decode(deltas[rows], anchors[rows]), *self.anchors.image)
        scores = np.asarray(1 / (1 + np.exp(-found[best])), np.float32)
        return Detections(boxes=boxes, scores=scores, labels=labels.astype(np.int64))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "anchors": self.anchors.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decoding:
        anchors = Anchors.from_json(data["anchors"])
        return cls(**{**data, "anchors": anchors, "classes": tuple(data["classes"])})


def by_anchor(outputs: Floats, per_cell: int) -> Floats:
    """One level's output `[A * C, H, W]` as `[H * W * A, C]`, in the order of `Anchors.boxes`."""
    channels, height, width = outputs.shape
    split = outputs.reshape(per_cell, channels // per_cell, height, width)
    return split.transpose(2, 3, 0, 1).reshape(-1, channels // per_cell)
