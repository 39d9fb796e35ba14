"""Views: how the elements of a result lie in the tensor that they are read from.

A view maps a position (row, column, channel) of a result to one of its source, and says where the
source has no such element. Batches are never mixed. Every rule uses only + * // %, so that one
definition serves Python integers, numpy arrays and TIR expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Extents = tuple[int, int, int]  # rows, columns, channels of one image
Position = tuple[Any, Any, Any]
Conditions = tuple[tuple[Any, int], ...]  # (index, extent): inside where 0 <= index < extent
ELEMENTS_AT_ONCE = 1 << 20  # that numpy follows: a large image's positions would fill the memory


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Source position `(i * step + offset) // divide`.

    Where `exact`, only positions that divide without a rest are elements of the source; between
    them there are none, which is how a transposed convolution spreads its input.
    """

    step: int = 1
    offset: int = 0
    divide: int = 1
    exact: bool = False

    def at(self, i: Any) -> Any:
        if self.divide == 1:
            return self._scaled(i)
        if self.step >= 0:
            return self._scaled(i) // self.divide
        # The same of a dividend that grows with i: TVM fails on some of those that fall.
        above = self.offset // self.divide + 1
        rest = (above + 1) * self.divide - self.offset - 1
        return above - (i * -self.step + rest) // self.divide

    def _scaled(self, i: Any) -> Any:
        scaled = i if self.step == 1 else i * self.step
        return scaled + self.offset if self.offset else scaled

    def conditions(self, i: Any, extent: int, source: int) -> Conditions:
        """What has to hold for `i` of `extent` results to be one of `source` elements.

        Nothing negative is divided: TVM's simplifier takes -i // 2 for negative at i = 0, too.
        """
        found: Conditions = ()
        if self.exact and self.divide > 1:
            rest = i * (self.step % self.divide) + self.offset % self.divide
            found = ((rest % self.divide, 1),)
        ends = self.at(0), self.at(extent - 1)
        if min(ends) < 0 or max(ends) >= source:
            found = (*found, (self._scaled(i), source * self.divide))
        return found


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Every axis by itself: slices, strides, zero borders, nearest-neighbour resizing, dilation.

    `shape` is the result's (rows, columns, channels), `source` that of what is read.
    """

    shape: Extents
    source: Extents
    rows: Axis = field(default_factory=Axis)
    columns: Axis = field(default_factory=Axis)
    channels: Axis = field(default_factory=Axis)

    @property
    def keeps_channels(self) -> bool:
        """Whether the channels of a pixel stay together, in their order, from the first on."""
        return self.channels == Axis() and self.shape[2] == self.source[2]

    @property
    def leaves(self) -> bool:
        """Whether some element of the result is none of the source."""
        return bool(self.conditions((0, 0, 0)))

    def position(self, at: Position) -> Position:
        return self.rows.at(at[0]), self.columns.at(at[1]), self.channels.at(at[2])

    def conditions(self, at: Position) -> Conditions:
        axes = (self.rows, self.columns, self.channels)
        return tuple(
            condition
            for axis, i, extent, source in zip(axes, at, self.shape, self.source, strict=True)
            for condition in axis.conditions(i, extent, source)
        )


@dataclass(frozen=True, kw_only=True)
class Reindex:
    """The source in ONNX's order (channel, row, column), reshaped to `extents`, transposed by
    `order`, and read as the result's (channel, row, column): reshapes, depth to space, shuffles.
    """

    shape: Extents
    source: Extents
    extents: tuple[int, ...]
    order: tuple[int, ...]

    keeps_channels = False
    leaves = False

    def position(self, at: Position) -> Position:
        height, width, _ = self.shape
        rest = (at[2] * height + at[0]) * width + at[1]
        strides = [math.prod(self.extents[axis + 1 :]) for axis in range(len(self.extents))]
        index: Any = 0
        for axis in reversed(self.order):
            if self.extents[axis] > 1:
                index = index + rest % self.extents[axis] * strides[axis]
                rest = rest // self.extents[axis]
        height, width, _ = self.source
        return index // width % height, index % width, index // (height * width)

    def conditions(self, at: Position) -> Conditions:
        return ()

    def undone(self, shown: NDArray[Any]) -> NDArray[Any]:
        """The source `[N, H, W, C]` of what the view shows, an array `[N, *shape]`."""
        images = shown.transpose(0, 3, 1, 2).reshape(
            len(shown), *(self.extents[axis] for axis in self.order)
        )
        back = images.transpose(0, *(1 + self.order.index(axis) for axis in range(len(self.order))))
        height, width, channels = self.source
        return back.reshape(len(shown), channels, height, width).transpose(0, 2, 3, 1)


View = Resample | Reindex


def change_nothing(*views: View) -> bool:
    """Whether what is seen through all of them, in the order of `follow`, is the source as it is.

    Reshapes and transposes are asked about; a `Resample` is always taken to change something."""
    first, last = views[0], views[-1]
    if not all(isinstance(view, Reindex) for view in views) or first.shape != last.source:
        return False
    height, width, channels = first.shape
    at_once = max(1, ELEMENTS_AT_ONCE // channels)
    return all(
        _stay(views, np.arange(start, min(start + at_once, height * width)))
        for start in range(0, height * width, at_once)
    )


def _stay(views: tuple[View, ...], pixels: NDArray[np.int64]) -> bool:
    """Whether all channels of these pixels, counted row by row, are where they were."""
    _, width, channels = views[0].shape
    own = pixels[:, None] // width, pixels[:, None] % width, np.arange(channels)
    found, _ = follow(views, own)
    return all(bool(np.all(there == here)) for there, here in zip(found, own, strict=True))


def follow(
    views: tuple[View, ...], at: Position, hide: Callable[[Any], Any] = lambda index: index
) -> tuple[Position, Conditions]:
    """The position behind all `views`, the first of which sees `at`, and what has to hold.

    `hide`: what is made of an index that falls where the one before it grows. Inside of the source
    it is 0 or more.
    """
    conditions: Conditions = ()
    for view in views:
        conditions += view.conditions(at)
        at = view.position(at)
        if isinstance(view, Resample):
            falling = (axis.step < 0 for axis in (view.rows, view.columns, view.channels))
            y, x, c = (hide(i) if down else i for i, down in zip(at, falling, strict=True))
            at = (y, x, c)
    return at, conditions
