"""How the codes of a tensor lie in memory between two kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mpqdeploy.targets.program import Grid, Tensor

CHANNEL_BLOCK = 16  # channels are stored in multiples of this, but for images of up to 4 channels
WORD = 32  # bits per word of a bit plane
SHORT = Grid(bits=16, signed=True)  # the one grid whose codes fit no byte: see "shorts"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One representation of a tensor; a tensor may be written in several.

    bytes: uint8 `[N, H+pad, W+pad, stored_channels]`, stored value = code - storage_offset(grid)
           >= 0. The border holds the stored zero point; channels past C hold anything.
    tight: uint8 `[N, H+pad, W+pad, C]`: bytes without room for more channels. A row of an image of
           1 to 3 channels is then one run of bytes, which a kernel row reads a word at a time.
    bits:  uint32 `[N, H+pad, W+pad, planes, words]`: bit c%32 of word c//32 of plane k is bit k of
           the stored value of channel c; bits past C are 0. The border holds the stored zero
           point's bits, and all 0 on a bipolar grid (which has no zero: the consumer corrects).
           A bipolar code is 1 bit: 1 for +1.
    shorts: int16 `[N, H, W, stored_channels]`, no padding: codes on the grid `SHORT`, as they are.
           Channels past C hold anything.
    reals: float32 `[N, H, W, stored_channels]`, no padding: tensors without a grid between two
           steps. Channels past C hold anything.
    float: float32 `[N, C, H, W]`, no padding: model inputs, outputs, and what float anchors read.

    `padding` is (top, left, bottom, right) and may be more than a consumer needs.
    """

    kind: Literal["bytes", "tight", "bits", "shorts", "reals", "float"]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


Layouts = Mapping[str, tuple[Layout, ...]]


def storage_offset(grid: Grid) -> int:
    """Stored byte = code - offset: the grid's two's complement low, or -1 where bipolar.

    Narrow grids keep the full grid's offset, so that the offset depends on the width alone. Codes
    of 16 bits are stored as they are.
    """
    if grid == SHORT:
        return 0
    if grid.bipolar:
        return -1
    return -(1 << (grid.bits - 1)) if grid.signed else 0


def stored_channels(channels: int) -> int:
    if channels <= 4:
        return 4
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK


def planes(grid: Grid) -> int:
    """Bit planes of a code in the bits layout."""
    return 1 if grid.bipolar else grid.bits


def words(channels: int) -> int:
    return -(-channels // WORD)


def buffer_shape(tensor: Tensor, layout: Layout) -> tuple[int, ...]:
    batch, height, width, channels = tensor.shape
    top, left, bottom, right = layout.padding
    padded = (batch, height + top + bottom, width + left + right)
    if layout.kind == "float":
        return (batch, channels, height, width)
    if layout.kind == "tight":
        return (*padded, channels)
    if layout.kind in ("bytes", "shorts", "reals"):
        return (*padded, stored_channels(channels))
    if tensor.grid is None:
        raise ValueError(f"{tensor.name} has no integer grid and so no bit planes")
    return (*padded, planes(tensor.grid), words(channels))


def buffer_dtype(layout: Layout) -> str:
    kinds = {"bytes": "uint8", "tight": "uint8", "bits": "uint32", "shorts": "int16"}
    return kinds.get(layout.kind, "float32")


def zero_code(tensor: Tensor) -> int:
    """The code that stands for real 0, as padding does. Scalar, integral zero points only."""
    return int(np.asarray(tensor.zero_point).reshape(-1)[0])
