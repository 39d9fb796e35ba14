"""Codes to buffers and back: the numpy twin of what kernels read and write.

Verification and tests use it; a compiled network never does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.layout import (
    WORD,
    Layout,
    buffer_shape,
    planes,
    storage_offset,
    words,
    zero_code,
)
from mpqdeploy.targets.program import Grid, Tensor


def encode(tensor: Tensor, layout: Layout, codes: NDArray[Any]) -> NDArray[Any]:
    """Write codes (or float values) of shape `[N, H, W, C]` as `layout` wants them in memory."""
    if layout.kind == "float":
        return np.ascontiguousarray(codes.transpose(0, 3, 1, 2).astype(np.float32))
    if layout.kind == "reals":
        values = np.zeros(buffer_shape(tensor, layout), np.float32)
        values[..., : tensor.shape[3]] = codes
        return values
    grid = _grid(tensor)
    stored = codes.astype(np.int64) - storage_offset(grid)
    if layout.kind == "shorts":
        shorts = np.zeros(buffer_shape(tensor, layout), np.int16)
        shorts[..., : tensor.shape[3]] = stored
        return shorts
    if layout.kind in ("bytes", "tight"):
        border = zero_code(tensor) - storage_offset(grid)
        buffer = np.full(buffer_shape(tensor, layout), border, np.uint8)
        _inside(tensor, layout, buffer)[..., : tensor.shape[3]] = stored
        return buffer
    buffer = np.zeros(buffer_shape(tensor, layout), np.uint32)
    if not grid.bipolar:
        zeros = np.full((1, 1, 1, tensor.shape[3]), zero_code(tensor) - storage_offset(grid))
        buffer[...] = _pack_bits(grid, zeros)
    _inside(tensor, layout, buffer)[...] = _pack_bits(grid, stored)
    return buffer


def decode(tensor: Tensor, layout: Layout, buffer: NDArray[Any]) -> NDArray[Any]:
    """Read codes `[N, H, W, C]` out of a buffer: int32, or float32 from reals and float."""
    channels = tensor.shape[3]
    if layout.kind == "float":
        return np.asarray(buffer.transpose(0, 2, 3, 1))
    if layout.kind == "reals":
        return np.asarray(buffer[..., :channels])
    grid = _grid(tensor)
    inside = _inside(tensor, layout, buffer)
    if layout.kind in ("bytes", "tight", "shorts"):
        return inside[..., :channels].astype(np.int32) + storage_offset(grid)
    spread = (inside[..., None] >> np.arange(WORD, dtype=np.uint32)) & 1
    bits = spread.reshape(*tensor.shape[:3], planes(grid), -1)[..., :channels].astype(np.int32)
    if grid.bipolar:
        return np.asarray(2 * bits[..., 0, :] - 1)
    weights = (1 << np.arange(grid.bits)).reshape(-1, 1)
    return np.asarray((bits * weights).sum(axis=3).astype(np.int32) + storage_offset(grid))


def _grid(tensor: Tensor) -> Grid:
    if tensor.grid is None:
        raise ValueError(f"{tensor.name} holds float values, not codes")
    return tensor.grid


def _inside(tensor: Tensor, layout: Layout, buffer: NDArray[Any]) -> NDArray[Any]:
    top, left = layout.padding[:2]
    return buffer[:, top : top + tensor.shape[1], left : left + tensor.shape[2]]


def _pack_bits(grid: Grid, stored: NDArray[np.int64]) -> NDArray[np.uint32]:
    """`[N, H, W, C]` stored values to `[N, H, W, planes, words]`."""
    channels = stored.shape[3]
    bits = (
        (stored > 0)[..., None, :]
        if grid.bipolar
        else (stored[..., None, :] >> np.arange(planes(grid)).reshape(-1, 1)) & 1
    )
    padded = np.zeros((*bits.shape[:4], words(channels) * WORD), np.uint32)
    padded[..., :channels] = bits
    grouped = padded.reshape(*bits.shape[:4], words(channels), WORD)
    shifted = grouped << np.arange(WORD, dtype=np.uint32)
    return np.asarray(shifted.sum(axis=-1, dtype=np.uint32))
