"""The geometry of a dense convolution as a loop nest over memory sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Buffer
from mpqdeploy.targets.kernels.storable import storable
from mpqdeploy.targets.layout import Layout, Layouts, storage_offset, zero_code
from mpqdeploy.targets.program import Conv, Grid, Step, Tensor

INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A convolution with one group: sizes only, of the unpadded tensors."""

    batch: int
    out_height: int
    out_width: int
    out_channels: int
    in_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, left, bottom, right

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def macs(self) -> int:
        outputs = self.batch * self.out_height * self.out_width * self.out_channels
        return outputs * self.taps * self.in_channels

    def origin(self, layout: Layout) -> tuple[int, int]:
        """Row and column, in a buffer of this layout, that tap (0, 0) of output (0, 0) reads."""
        return layout.padding[0] - self.padding[0], layout.padding[1] - self.padding[1]


def dense(step: Step, tensors: Mapping[str, Tensor]) -> Dense:
    """The geometry of a step whose anchor is a `Conv`; that of its sums, where it pools them."""
    conv = step.anchor
    if not isinstance(conv, Conv):
        raise ValueError(f"{step.name} is no convolution")
    summed = conv.pool.input if conv.pool else step.outputs[0].tensor
    batch, height, width, channels = tensors[summed].shape
    return Dense(
        batch=batch,
        out_height=height,
        out_width=width,
        out_channels=channels,
        in_channels=conv.weights.shape[3],
        kernel=(conv.weights.shape[1], conv.weights.shape[2]),
        stride=conv.stride,
        dilation=conv.dilation,
        padding=conv.padding,
    )


def stored_zero(tensor: Tensor, grid: Grid) -> int:
    """The stored value that stands for real 0."""
    return zero_code(tensor) - storage_offset(grid)


def zero_is_storable(tensor: Tensor, grid: Grid) -> bool:
    """Whether one integral zero point holds for all channels and fits a stored byte."""
    zeros = np.unique(tensor.zero_point)
    one = zeros.size == 1 and float(zeros[0]).is_integer()
    return bool(one) and 0 <= stored_zero(tensor, grid) <= 255


def cannot_overflow(weights: NDArray[np.int32], largest: int) -> bool:
    """Whether no partial sum of stored value * weight, nor the zero correction, leaves int32."""
    return int(magnitudes(weights).max(initial=0)) * 2 * largest <= INT32_MAX


def magnitudes(weights: NDArray[np.int32]) -> NDArray[np.int64]:
    """Sums of the absolute weights of every output channel."""
    whole = np.abs(weights.astype(np.int64)).reshape(weights.shape[0], -1)
    return np.asarray(whole.sum(axis=1), np.int64)


def operand_of_dense(step: Step, tensors: Mapping[str, Tensor]) -> tuple[Conv, Tensor, Grid]:
    """`dense_operand` of a step that a kernel has matched. Raises `ValueError` for any other."""
    found = dense_operand(step, tensors)
    if found is None:
        raise ValueError(f"{step.name} is no dense integer convolution")
    return found


def largest_stored(grid: Grid) -> int:
    return grid.high - storage_offset(grid)


def bytes_buffer(tensor: str, layouts: Layouts, padding: tuple[int, int, int, int]) -> Buffer:
    """The tensor's bytes layout with at least this padding."""
    return padded_buffer("bytes", tensor, layouts, padding)


def padded_buffer(
    kind: str, tensor: str, layouts: Layouts, padding: tuple[int, int, int, int]
) -> Buffer:
    """The tensor's layout of this kind with at least this padding."""
    for layout in layouts[tensor]:
        enough = all(a >= b for a, b in zip(layout.padding, padding, strict=True))
        if layout.kind == kind and enough:
            return Buffer(tensor=tensor, layout=layout)
    raise ValueError(f"{tensor} has no {kind} layout with padding {padding}")


def dense_operand(step: Step, tensors: Mapping[str, Tensor]) -> tuple[Conv, Tensor, Grid] | None:
    """Anchor, input tensor and its grid of a step that is a dense integer convolution."""
    conv = step.anchor
    if not isinstance(conv, Conv) or conv.groups != 1 or not storable(step, tensors):
        return None
    tensor = tensors[conv.input]
    if tensor.grid is None or tensor.grid.bits > 8 or not zero_is_storable(tensor, tensor.grid):
        return None
    return conv, tensor, tensor.grid
