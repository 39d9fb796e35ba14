"""`PooledSums`: the maxima of accumulators over windows of pixels, taken before the epilogue.

An epilogue that never falls as its sum grows makes the same codes of the largest sum as a maximum
pool makes of all codes. So a convolution before a pool needs a fraction of the epilogues, a quarter
for windows that move by two, and never writes what the pool would read again [o].

Sums of a row are compared in registers, and the maxima of all rows of a window so far are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpqdeploy.targets.kernels.flush import Block, Flush, together
from mpqdeploy.targets.kernels.geometry import INT32_MAX, Dense
from mpqdeploy.targets.kernels.register_tiles import Tile, channel_vectors
from mpqdeploy.targets.program import Pool

LEAST = -INT32_MAX - 1


class PooledSums:
    """Of a nest that goes through the rows of an image in turn, with all channels of each.

    `geometry`: of the sums; `pool` is one that `pools_sums` says yes to.
    """

    def __init__(self, pool: Pool, geometry: Dense, tile: Tile, lanes: int) -> None:
        self._pool = pool
        self._rows = tile.rows
        self._vectors = tile.vectors
        self._lanes = lanes
        self._channels = channel_vectors(geometry.out_channels, lanes) * lanes
        left, right = pool.padding[1], pool.padding[3]
        across = geometry.out_width + left + right - pool.kernel[1]
        self._width = across // pool.stride[1] + 1
        self._kept: Any = None  # maxima of the window's rows so far, by column and channel
        self._before: Any = None  # of rows' last windows, not complete, by row and channel

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        size = self._width * self._channels
        self._kept = T.alloc_buffer((size,), "int32", scope="global")
        self._before = T.alloc_buffer((self._rows * self._channels,), "int32", scope="global")

    def begin_image(self) -> None:
        self._clear(self._kept)

    def begin_rows(self) -> None:
        self._clear(self._before)

    def take(self, accs: Sequence[Any], flush: Flush, o: Any, block: Block) -> None:
        """The sums of a block, by pixel and vector, of output-channel tile `o`."""
        of_row = block.columns * self._vectors
        for row in range(block.rows):
            self._take(accs[row * of_row : (row + 1) * of_row], flush, o, block, row)

    def _take(self, accs: Sequence[Any], flush: Flush, o: Any, block: Block, row: int) -> None:
        """One row of a block."""
        from tvm.script.ir_builder import tirx as T

        pool, complete = self._pool, self._complete(block.columns)
        self._across(accs, flush, o, row, complete)
        if not complete:
            return
        # Counted from the row in which the first window would be complete.
        down = block.y + row + pool.padding[0] - pool.kernel[0] + 1
        missing = pool.kernel[1] - 1 - pool.padding[1]
        first = T.floordiv(block.x, pool.stride[1]) + (complete[0] - missing) // pool.stride[1]
        with T.If(T.floormod(down, pool.stride[0]) == 0):
            with T.Then():
                y = T.floordiv(down, pool.stride[0])
                for column in together(flush.outlet, len(complete), self._vectors):
                    self._finish(flush, o, (block.n, y, first), column)
            with T.Else(), T.serial(0, len(complete)) as column:
                for vector in range(self._vectors):
                    at = self._at(first + column, o, vector)
                    new = flush.sums[0, column * self._vectors + vector, self._lane]
                    T.buffer_store(self._kept, T.max(self._kept[at], new), [at])

    def _complete(self, columns: int) -> list[int]:
        """The columns of a block with which a window is complete: blocks begin where windows do, or
        an equal number of columns behind."""
        last = self._pool.kernel[1] - 1 - self._pool.padding[1]
        return [x for x in range(columns) if (x - last) % self._pool.stride[1] == 0]

    def _across(
        self, accs: Sequence[Any], flush: Flush, o: Any, row: int, complete: list[int]
    ) -> None:
        """The maxima of the windows' columns in a row, into the flush's scratch."""
        from tvm.script.ir_builder import tirx as T

        for vector in range(self._vectors):
            channel = (o * self._vectors + vector) * self._lanes
            at = T.ramp(row * self._channels + channel, 1, self._lanes)
            most = T.bind(self._before[at])
            for column in range(len(accs) // self._vectors):
                new = T.bind(accs[column * self._vectors + vector][self._lane])
                most = T.bind(T.max(most, new))
                if column in complete:
                    number = complete.index(column) * self._vectors + vector
                    T.buffer_store(flush.sums, most, [0, number, self._lane])
                    most = new if self._shared(1) else self._least
            T.buffer_store(self._before, most, [at])

    def _finish(self, flush: Flush, o: Any, place: tuple[Any, Any, Any], column: Any) -> None:
        """The last row of a window, which may be the next one's first."""
        from tvm.script.ir_builder import tirx as T

        n, y, first = place
        for vector in range(self._vectors):
            at = self._at(first + column, o, vector)
            new = T.bind(flush.sums[0, column * self._vectors + vector, self._lane])
            most = T.bind(T.max(self._kept[at], new))
            T.buffer_store(self._kept, new if self._shared(0) else self._least, [at])
            channel = (o * self._vectors + vector) * self._lanes
            flush.store(most, n, y, first + column, channel)

    def _shared(self, axis: int) -> bool:
        """Whether a window's last row (or column) is the next one's first."""
        return self._pool.kernel[axis] > self._pool.stride[axis]

    def _at(self, column: Any, o: Any, vector: int) -> Any:
        """Where `_kept` has a vector of maxima."""
        from tvm.script.ir_builder import tirx as T

        channel = (o * self._vectors + vector) * self._lanes
        return T.ramp(column * self._channels + channel, 1, self._lanes)

    def _clear(self, buffer: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        with T.serial(0, int(buffer.shape[0]) // self._lanes) as i:
            T.buffer_store(buffer, self._least, [T.ramp(i * self._lanes, 1, self._lanes)])

    @property
    def _least(self) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.broadcast(T.int32(LEAST), self._lanes)

    @property
    def _lane(self) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.ramp(0, 1, self._lanes)


def pools_sums(pool: Pool, geometry: Dense, tile: Tile) -> bool:
    """Whether `PooledSums` takes these maxima: of blocks that begin where windows do, of windows
    that meet in one row and column at most, none of which ends beyond the sums."""
    size = (geometry.out_height, geometry.out_width)
    whole = tile.columns % pool.stride[1] == 0 or tile.columns >= size[1]
    meet = all(_meets(pool, axis, size[axis]) for axis in (0, 1))
    return pool.kind == "max" and whole and meet


def _meets(pool: Pool, axis: int, length: int) -> bool:
    """One axis of `pools_sums`. No window may be complete before the first one is."""
    kernel, stride, before = pool.kernel[axis], pool.stride[axis], pool.padding[axis]
    windows = (length + before + pool.padding[2 + axis] - kernel) // stride + 1
    inside = (windows - 1) * stride + kernel - before <= length
    return stride <= kernel <= stride + 1 and inside and before >= kernel - stride
