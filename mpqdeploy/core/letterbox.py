"""`Letterbox`: an image of any size on a canvas of a fixed one, without distortion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.boxes import Boxes, clip

GREY = 114
"""What the canvas holds beside the image [F]."""


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """An image resized to `inner` = (width, height) with its corner at (`left`, `top`) of the
    canvas `size` = (height, width), which may cut some of it off.

    `source` is the image's own (height, width). Whoever resizes brings the library for it:
    `box.paste(np.asarray(picture.resize(box.inner)))`.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    inner: tuple[int, int]
    left: int
    top: int

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int]) -> Letterbox:
        """As large as the canvas allows, in its middle."""
        return cls.placed(source, size, zoom=1.0, at=(0.5, 0.5))

    @classmethod
    def placed(
        cls,
        source: tuple[int, int],
        size: tuple[int, int],
        *,
        zoom: float,
        at: tuple[float, float],
    ) -> Letterbox:
        """`zoom` times as large as fits; `at` in [0, 1]² from the left and top of where it fits
        (or, where it is larger than the canvas, of what is seen of it)."""
        scale = zoom * min(size[0] / source[0], size[1] / source[1])
        width, height = (max(1, round(side * scale)) for side in (source[1], source[0]))
        return cls(
            source=source,
            size=size,
            inner=(width, height),
            left=round((size[1] - width) * at[0]),
            top=round((size[0] - height) * at[1]),
        )

    def paste(self, resized: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The canvas `[H, W, C]` with the image, resized to `inner`: `[height, width, C]`."""
        canvas = np.full((*self.size, resized.shape[2]), GREY, np.uint8)
        (rows, from_rows), (columns, from_columns) = (
            _overlap(start, side, whole)
            for start, side, whole in (
                (self.top, self.inner[1], self.size[0]),
                (self.left, self.inner[0], self.size[1]),
            )
        )
        canvas[rows, columns] = resized[from_rows, from_columns]
        return canvas

    def to_canvas(self, boxes: Boxes) -> Boxes:
        """Boxes `[N, 4]` of the image in pixels of the canvas; not clipped."""
        return np.asarray(boxes * self._scale + self._shift, np.float32)

    def to_image(self, boxes: Boxes) -> Boxes:
        """Boxes of the canvas in pixels of the image, clipped to it."""
        return clip(np.asarray((boxes - self._shift) / self._scale, np.float32), *self.source)

    @property
    def _scale(self) -> NDArray[np.float32]:
        x, y = self.inner[0] / self.source[1], self.inner[1] / self.source[0]
        return np.array([x, y, x, y], np.float32)

    @property
    def _shift(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top, self.left, self.top], np.float32)


def _overlap(start: int, side: int, whole: int) -> tuple[slice, slice]:
    """Where a range of `side` that begins at `start` lies in [0, whole), and which part of it."""
    low, high = max(start, 0), min(start + side, whole)
    return slice(low, high), slice(low - start, high - start)
