"""Fills what no pixel's store reaches: padding borders, and the unused ends of bit words."""

from __future__ import annotations

from math import gcd
from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.base import Buffer
from mpqdeploy.targets.layout import (
    CHANNEL_BLOCK,
    WORD,
    buffer_shape,
    planes,
    storage_offset,
    words,
    zero_code,
)
from mpqdeploy.targets.program import Tensor


def border_pixel(tensor: Tensor, buffer: Buffer) -> list[int]:
    """The uint8 or uint32 values of one border pixel: stored zero point, or its bit planes."""
    if tensor.grid is None:
        raise ValueError(f"{tensor.name} has no integer grid and so no border")
    channels = tensor.shape[3]
    zero = zero_code(tensor) - storage_offset(tensor.grid)
    if buffer.layout.kind in ("bytes", "tight"):
        return [zero] * buffer_shape(tensor, buffer.layout)[3]
    values = []
    for plane in range(planes(tensor.grid)):
        is_set = not tensor.grid.bipolar and bool(zero >> plane & 1)
        for word in range(words(channels)):
            present = min(channels - word * WORD, WORD)
            values.append((1 << present) - 1 if is_set else 0)
    return values


def fill_border(tensor: Tensor, buffer: Buffer, arg: Any) -> None:
    """Emits loops over the border, which is contiguous from one row's end to the next's start."""
    top, left, bottom, right = buffer.layout.padding
    if buffer.layout.kind == "float" or not any((top, left, bottom, right)):
        return
    batch, height, width = buffer_shape(tensor, buffer.layout)[:3]
    inner = width - left - right
    pixel = border_pixel(tensor, buffer)
    flat = T.decl_buffer((batch * height * width * len(pixel),), str(arg.dtype), data=arg.data)
    with T.serial(0, batch) as n:
        start = n * (height * width)
        _fill(flat, pixel, start, top * width + left)
        if left + right:
            with T.serial(0, height - top - bottom - 1) as y:
                _fill(flat, pixel, start + (top + y) * width + left + inner, left + right)
        end = start + (height - bottom) * width - right
        _fill(flat, pixel, end, bottom * width + right)


def _fill(flat: Any, pixel: list[int], start: Any, count: int) -> None:
    """Emits stores of `count` equal pixels from pixel index `start`."""
    size = len(pixel)
    dtype = str(flat.dtype)
    if len(set(pixel)) == 1:
        lanes = gcd(count * size, 64 if dtype == "uint8" else 16)
        value = T.cast(T.int64(pixel[0]), dtype)
        with T.serial(0, count * size // lanes) as i:
            if lanes == 1:
                T.buffer_store(flat, value, [start * size + i])
            else:
                at = T.ramp(start * size + i * lanes, 1, lanes)
                T.buffer_store(flat, T.broadcast(value, lanes), [at])
        return
    with T.serial(0, count) as i:
        for j, element in enumerate(pixel):
            T.buffer_store(flat, T.cast(T.int64(element), dtype), [(start + i) * size + j])


def clear_word_ends(tensor: Tensor, buffer: Buffer, halves: Any) -> None:
    """Zeroes the half words past the last block of channels; `halves`: uint16 view of a bits
    layout with an odd number of channel blocks."""
    top, left, _, _ = buffer.layout.padding
    batch, height, width, channels = tensor.shape
    if tensor.grid is None:
        raise ValueError(f"{tensor.name} has no integer grid and so no bit planes")
    last = -(-channels // CHANNEL_BLOCK)
    with T.serial(0, batch) as n, T.serial(0, height) as y, T.serial(0, width) as x:
        for plane in range(planes(tensor.grid)):
            T.buffer_store(halves, T.uint16(0), [n, y + top, x + left, plane, last])
