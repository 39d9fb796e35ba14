"""Maxima as bytes: of columns first, which neighbouring windows share.

A window of 3 x 3 that moves by two columns takes the maxima of two new columns and keeps one: six
loads and six maxima for 64 channels, instead of nine each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from mpqdeploy.targets.kernels.packing import VECTOR_BYTES
from mpqdeploy.targets.kernels.pool_window import UNROLLED_TAPS, Window
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.layout import stored_channels
from mpqdeploy.targets.program import Pool

if TYPE_CHECKING:
    from mpqdeploy.targets.kernels.epilogue import Epilogue
    from mpqdeploy.targets.kernels.epilogue.packed import Follows


def separable(pool: Pool) -> bool:
    """Whether its maxima are taken by columns, which are written out."""
    rows, columns = pool.kernel
    fresh = min(columns, pool.stride[1])
    return pool.kind == "max" and columns <= UNROLLED_TAPS and rows * fresh <= UNROLLED_TAPS


def emit_maxima(window: Window, epilogue: Epilogue, how: Sequence[Follows], share: Share) -> None:
    """Emits the loops; `how` is what `following.all_follow` says of the epilogue's step."""
    from tvm.script.ir_builder import tirx as T

    batch, height, width, channels = epilogue.shape
    (_, columns), (_, stride) = window.pool.kernel, window.pool.stride
    kept = max(columns - stride, 0)
    # One buffer each: LLVM keeps these in registers, and does not with one for all.
    before = [T.alloc_buffer((VECTOR_BYTES,), "uint8", scope="global") for _ in range(kept)]
    index = T.ramp(0, 1, VECTOR_BYTES)
    with (
        T.serial(0, batch) as n,
        share.loop(height) as y,
        T.serial(0, stored_channels(channels) // VECTOR_BYTES) as block,
    ):
        for column, buffer in enumerate(before):
            T.buffer_store(buffer, _column(window, n, y, column, block * VECTOR_BYTES), [index])
        with T.serial(0, width) as x:
            found = [T.bind(buffer[index]) for buffer in before]
            found += [
                T.bind(_column(window, n, y, x * stride + column, block * VECTOR_BYTES))
                for column in range(kept, columns)
            ]
            codes = T.bind(reduce(T.max, found))
            epilogue.store_codes(codes, how, n, y, x, block * VECTOR_BYTES)
            for buffer, value in zip(before, found[stride:], strict=False):
                T.buffer_store(buffer, value, [index])


def _column(window: Window, n: Any, y: Any, column: Any, channel: Any) -> Any:
    """The maximum of the rows of a window in one column, counted from where padding begins."""
    from tvm.script.ir_builder import tirx as T

    rows, stride = window.pool.kernel[0], window.pool.stride[0]
    places = ((y * stride + row, column) for row in range(rows))
    return reduce(T.max, (window.stored(n, place, channel, VECTOR_BYTES) for place in places))
