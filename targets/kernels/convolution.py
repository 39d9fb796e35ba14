"""What convolution kernels over bytes share: geometry, the exact start value, products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import (
    bytes_buffer,
    cannot_overflow,
    largest_stored,
    stored_zero,
    zero_is_storable,
)
from mpqdeploy.targets.kernels.storable import STORED_BITS, fits_bytes, storable
from mpqdeploy.targets.layout import CHANNEL_BLOCK, Layout, Layouts
from mpqdeploy.targets.program import Conv, Grid, Step, Tensor


def operand_of(step: Step, tensors: Tensors) -> Conv | None:
    """The step's convolution where it is one of stored bytes whose int32 sums cannot overflow."""
    conv = bytes_operand(step, tensors)
    return conv if conv is not None and Geometry.of(step, tensors).fits_int32 else None


def bytes_operand(step: Step, tensors: Tensors) -> Conv | None:
    """The step's convolution where it is one of stored bytes, however large its sums."""
    conv = step.anchor
    if not isinstance(conv, Conv) or not storable(step, tensors):
        return None
    source = tensors[conv.input]
    if source.grid is None or not fits_bytes(source) or not zero_is_storable(source, source.grid):
        return None
    return conv if conv.weight_grid.bits <= STORED_BITS else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """A convolution between two tensors; `shape` is the output's `[N, H, W, C]`."""

    conv: Conv
    source: Tensor
    grid: Grid
    shape: tuple[int, int, int, int]

    @classmethod
    def of(cls, step: Step, tensors: Tensors) -> Geometry:
        conv = step.anchor
        if not isinstance(conv, Conv):
            raise ValueError(f"{step.name} is no convolution")
        source = tensors[conv.input]
        if source.grid is None:
            raise ValueError(f"{step.name} convolves floats, not codes")
        shape = tensors[step.outputs[0].tensor].shape
        return cls(conv=conv, source=source, grid=source.grid, shape=shape)

    @property
    def operand(self) -> Layout:
        """Stored bytes with the least padding that covers every tap of every output."""
        conv, (_, height, width, _) = self.conv, self.source.shape
        _, rows, columns, _ = conv.weights.shape
        top, left, _, _ = conv.padding
        bottom = (self.shape[1] - 1) * conv.stride[0] + (rows - 1) * conv.dilation[0] + 1
        right = (self.shape[2] - 1) * conv.stride[1] + (columns - 1) * conv.dilation[1] + 1
        below, beside = max(bottom - top - height, 0), max(right - left - width, 0)
        return Layout(kind="bytes", padding=(top, left, below, beside))

    def find(self, layouts: Layouts) -> Layout:
        """The bytes layout of the input that covers every tap."""
        return bytes_buffer(self.conv.input, layouts, self.operand.padding).layout

    @property
    def fits_int32(self) -> bool:
        """Proven from the actual weights: no partial sum leaves int32, whatever the codes."""
        return cannot_overflow(self.conv.weights, largest_stored(self.grid))

    def start_values(self, lanes: int) -> NDArray[Any]:
        """What accumulators start at, per output channel and padded to whole blocks:
        -stored_zero * sum of weights. Exact at the edges too, where the border holds the zero.
        int64 where sums may leave int32."""
        weights = self.conv.weights.astype(np.int64)
        start = -stored_zero(self.source, self.grid) * weights.reshape(len(weights), -1).sum(axis=1)
        padded = np.pad(start, (0, -len(start) % max(lanes, CHANNEL_BLOCK)))
        return padded.astype(np.int32 if self.fits_int32 else np.int64)

    def pixel(self, layout: Layout, y: Any, x: Any, row: Any, column: Any) -> tuple[Any, Any]:
        """Row and column, in a buffer of `layout`, of tap (row, column) of output (y, x)."""
        conv = self.conv
        top, left = layout.padding[0] - conv.padding[0], layout.padding[1] - conv.padding[1]
        at_y = y * conv.stride[0] + row * conv.dilation[0] + top
        return at_y, x * conv.stride[1] + column * conv.dilation[1] + left


def multiply(stored: Any, weight: Any, grid: Grid, lanes: int) -> Any:
    """Exact int32 products of stored bytes and weights on `grid`, both vectors of 8-bit codes."""
    from tvm.script.ir_builder import tirx as T

    # 255 * -128 and 255 * 127 fit int16, whose product takes one instruction everywhere.
    narrow = f"int16x{lanes}" if grid.high <= 127 else f"int32x{lanes}"
    return T.cast(T.cast(stored, narrow) * T.cast(weight, narrow), f"int32x{lanes}")


def column_tiles(step: Step, tensors: Tensors, widths: Sequence[int] = (8, 4, 2)) -> list[Schedule]:
    """Tiles of neighbouring output pixels, likely best first, none wider than the output."""
    width = tensors[step.outputs[0].tensor].shape[2]
    return [{"columns": c} for c in dict.fromkeys(min(columns, width) for columns in widths)]
