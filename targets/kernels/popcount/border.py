"""The exact border of bipolar activations: a padded tap counts 0, where its zero bits say -1.

Each padded tap took the sum of its weights too much away. Those sums are counted from the packed
weights at the start of the kernel, and only pixels whose window leaves the image add them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpqdeploy.targets.kernels.flush import Store
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.popcount.words import weight_factors
from mpqdeploy.targets.program import Grid, Tensor

Finish = Callable[[Any, Any, Any, Any, Any, Any], None]  # (counts, n, y, x, channel, correction)
ReadWords = Callable[[Any, Any, Any, int], Any]  # (vector, tap, word, plane) -> uint32 vector


class Border:
    """Corrections of the pixels at the border; nothing at all where none is needed."""

    def __init__(
        self, geometry: Dense, source: Tensor, weights: Grid, words: tuple[int, ...]
    ) -> None:
        """`words`: shape of the packed weights, `[vectors, taps, words, planes, lanes]`."""
        bipolar = source.grid is not None and source.grid.bipolar
        self.needed = bipolar and any(padding > 0 for padding in geometry.padding)
        self._geometry = geometry
        self._size = source.shape[1:3]
        self._grid = weights
        self._words = words
        self._sums: Any = None
        self._total: Any = None

    def prepare(self, read: ReadWords) -> None:
        """Count the weights of every tap and output channel."""
        from tvm.script.ir_builder import tirx as T

        if not self.needed:
            return
        vectors, taps, words, _, lanes = self._words
        self._sums = T.alloc_buffer((taps, vectors * lanes), "int32", scope="global")
        self._total = T.alloc_buffer((lanes,), "int32", scope="global")
        first = -self._geometry.in_channels if self._grid.bipolar else 0
        with T.serial(0, vectors) as vector, T.serial(0, taps) as tap:
            index = T.ramp(vector * lanes, 1, lanes)
            T.buffer_store(self._sums, T.broadcast(T.int32(first), lanes), [tap, index])
            with T.serial(0, words) as word:
                total = self._sums[tap, index]
                for plane, factor in enumerate(weight_factors(self._grid)):
                    worth = 2 if self._grid.bipolar else factor
                    count = T.popcount(read(vector, tap, word, plane))
                    total = total + T.cast(count, f"int32x{lanes}") * worth
                T.buffer_store(self._sums, total, [tap, index])

    def correcting(self, finish: Finish) -> Store:
        """`finish`, with the correction of its pixel."""
        if not self.needed:
            return lambda counts, n, y, x, channel: finish(counts, n, y, x, channel, None)

        def store(counts: Any, n: Any, y: Any, x: Any, channel: Any) -> None:
            from tvm.script.ir_builder import tirx as T

            lanes = self._words[4]
            index = T.ramp(0, 1, lanes)
            T.buffer_store(self._total, T.broadcast(T.int32(0), lanes), [index])
            with T.If(self._leaves(y, x)), T.Then():
                self._add_taps(y, x, channel)
            finish(counts, n, y, x, channel, self._total[index])

        return store

    def _first(self, y: Any, x: Any) -> tuple[Any, Any]:
        """Row and column of the image that tap (0, 0) reads."""
        (top, left, _, _), (sy, sx) = self._geometry.padding, self._geometry.stride
        return y * sy - top, x * sx - left

    def _leaves(self, y: Any, x: Any) -> Any:
        """Whether the window of output pixel (y, x) leaves the image."""
        from tvm.script.ir_builder import tirx as T

        outside = []
        for first, size, taps, step in zip(
            self._first(y, x),
            self._size,
            self._geometry.kernel,
            self._geometry.dilation,
            strict=True,
        ):
            outside += [first < 0, first + (taps - 1) * step >= size]
        return T.Or(T.Or(outside[0], outside[1]), T.Or(outside[2], outside[3]))

    def _add_taps(self, y: Any, x: Any, channel: Any) -> None:
        """Add the weights' sums of the taps outside the image to the correction."""
        from tvm.script.ir_builder import tirx as T

        lanes, width = self._words[4], self._geometry.kernel[1]
        index = T.ramp(0, 1, lanes)
        first_row, first_column = self._first(y, x)
        with T.serial(0, self._geometry.kernel[0]) as kh, T.serial(0, width) as kw:
            row = first_row + kh * self._geometry.dilation[0]
            column = first_column + kw * self._geometry.dilation[1]
            rows = T.Or(row < 0, row >= self._size[0])
            columns = T.Or(column < 0, column >= self._size[1])
            with T.If(T.Or(rows, columns)), T.Then():
                sums = self._sums[kh * width + kw, T.ramp(channel, 1, lanes)]
                T.buffer_store(self._total, self._total[index] + sums, [index])
