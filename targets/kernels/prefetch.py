"""Asking for cache lines before they are needed: the processor's own prefetchers stop at every page
of 4 KiB, and do not see where the next block of an image lies. A prefetch never faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LINE = 64  # bytes


def prefetch_line(element: Any, *, write: bool = False) -> None:
    """The line of a buffer's element: to the second level, or to be written to."""
    from tvm.script.ir_builder import tirx as T

    how, level, data = (1, 3, 1) if write else (0, 2, 1)
    given = (T.address_of(element), how, level, data)
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch.p0", *given))


def prefetch_channels(
    buffer: Any, pixel: Sequence[Any], first: Any, count: int, *, write: bool = False
) -> None:
    """The lines of `count` channels of a pixel, of a buffer `[N, H, W, C]`."""
    size = np.dtype(str(buffer.dtype)).itemsize
    for channel in range(0, count, LINE // size):
        prefetch_line(buffer[(*pixel, first + channel)], write=write)
