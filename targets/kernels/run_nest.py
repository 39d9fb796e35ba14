"""`RunNest`: the loops of a convolution that is read by kernel rows.

images > rows (words of what is left of kernel rows) > output-channel tiles > column tiles >
    accumulators in registers: steps of a table, then words
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_inner import GROUP, DotInner
from mpqdeploy.targets.kernels.dot_runs import Runs
from mpqdeploy.targets.kernels.flush import Block, Flush
from mpqdeploy.targets.kernels.register_tiles import Tile
from mpqdeploy.targets.kernels.row_nest import RowNest
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.program import Pool


class RunNest(RowNest):
    """Of a `DotInner` whose weights are those of `runs`, all at hand.

    A word is gathered once, and kept in a ring for the rows of pixels that read it again.
    """

    def __init__(
        self, isa: Isa, tile: Tile, inner: DotInner, runs: Runs, pool: Pool | None = None
    ) -> None:
        super().__init__(runs.geometry, isa, tile, inner, pool)
        self._runs = runs
        self._source: Any = None
        self._bytes: Any = None
        self._table: Any = None
        self._words: Any = None

    def declare(self, source: Any) -> tuple[NDArray[np.int32]]:
        """Takes the declared input `[N, H, W, C]`, declares the table; returns that constant."""
        from tvm.script.ir_builder import tirx as T

        self._source = source
        table = self._runs.table(int(source.shape[2]) * int(source.shape[3]))
        self._table = T.arg("table", T.buffer(table.shape, "int32"))
        return (table,)

    def _loops(self, origin: tuple[int, int], flush: Flush, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        size = math.prod(int(extent) for extent in self._source.shape)
        self._bytes = T.decl_buffer((size,), "uint8", data=self._source.data)
        if self._runs.gathered:
            ring = (self._runs.kept + 1, self.geometry.out_width)
            self._words = T.alloc_buffer(ring, "int32", scope="global")
        super()._loops(origin, flush, share)

    def _before_rows(self, n: Any, origin: tuple[int, int], share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        if self._runs.kept:
            first = share.first(self.geometry.out_height)
            with T.serial(0, self._runs.kept) as row:
                self._gather(n, origin, first + row)

    def _before_row(self, n: Any, origin: tuple[int, int], y: Any) -> None:
        if self._runs.gathered:
            self._gather(n, origin, y + self._runs.kept)

    def _gather(self, n: Any, origin: tuple[int, int], y: Any) -> None:
        """The words of kernel rows 0 to 3 at output row `y`. Rows below the input are those of
        kernel rows that there are none of: their weights are 0."""
        from tvm.script.ir_builder import tirx as T

        geometry, last = self.geometry, int(self._source.shape[1]) - 1
        slot = T.floormod(y, self._runs.kept + 1)
        with T.serial(0, geometry.out_width) as x:
            word: Any = T.int32(0)
            for part in range(GROUP):
                row = y * geometry.stride[0] + origin[0] + part * geometry.dilation[0]
                first = self._first(origin, n, T.min(row, last), x)
                byte = self._bytes[first + geometry.in_channels]
                word = T.bitwise_or(word, T.shift_left(T.cast(byte, "int32"), T.int32(8 * part)))
            T.buffer_store(self._words, word, [slot, x])

    def _accumulate(self, origin: tuple[int, int], block: Block, o: Any, part: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._ask("block", o, block.number)
        read = int(self._table.shape[0])
        with T.serial(0, read) as step:
            offset = T.bind(self._table[step])
            self._add(block, step, partial(self._in_place, origin, block.n, offset))
        for word in range(self._runs.words):
            self._add(block, read + word, partial(self._word, word))

    def _in_place(self, origin: tuple[int, int], n: Any, offset: Any, y: Any, x: Any) -> Any:
        """The 4 bytes at `offset` of output pixel (y, x), as an int32."""
        from tvm.script.ir_builder import tirx as T

        first = self._first(origin, n, y * self.geometry.stride[0] + origin[0], x) + offset
        return [T.reinterpret("int32", self._bytes[T.ramp(first, 1, GROUP)])]

    def _word(self, number: int, y: Any, x: Any) -> Any:
        """The `number`-th word of output pixel (y, x)."""
        from tvm.script.ir_builder import tirx as T

        row = y + number * self._runs.apart
        return [self._words[T.floormod(row, self._runs.kept + 1), x]]

    def _first(self, origin: tuple[int, int], n: Any, row: Any, x: Any) -> Any:
        """The first byte that output column `x` reads in a row of the padded input."""
        _, height, width, channels = (int(extent) for extent in self._source.shape)
        return ((n * height + row) * width + x * self.geometry.stride[1] + origin[1]) * channels
