"""`Window`: the taps of a pooling, and what they reduce to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.kernels.float_pool import taps_inside
from mpqdeploy.targets.kernels.geometry import stored_zero
from mpqdeploy.targets.layout import Layout, storage_offset
from mpqdeploy.targets.program import Grid, Pool, Tensor

UNROLLED_TAPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The taps of one output element; `arg` is the TIR buffer of the input's bytes layout."""

    pool: Pool
    tensor: Tensor
    layout: Layout
    arg: Any
    clamped: bool  # some tap lies outside the input

    @property
    def grid(self) -> Grid:
        if self.tensor.grid is None:
            raise ValueError(f"{self.tensor.name} has no integer grid to pool over")
        return self.tensor.grid

    def reduce(self, acc: Any, n: Any, y: Any, x: Any, c: Any) -> Any:
        """Emits the reduction into `acc`; returns it as exact int32 codes, or sums."""
        from tvm.script.ir_builder import tirx as T

        lanes = int(acc.shape[0])
        index = T.ramp(0, 1, lanes)
        zero = T.broadcast(T.cast(T.int32(0), str(acc.dtype)), lanes)
        T.buffer_store(acc, zero, [index])
        rows, columns = self.pool.kernel
        if rows * columns <= UNROLLED_TAPS:
            for row, column in np.ndindex(rows, columns):
                self._add(acc, n, y, x, c, int(row), int(column))
        else:
            with T.serial(0, rows) as row, T.serial(0, columns) as column:
                self._add(acc, n, y, x, c, row, column)
        if self.pool.kind == "max":
            codes = T.cast(acc[index], f"int32x{lanes}")
            return codes + T.broadcast(T.int32(storage_offset(self.grid)), lanes)
        missing = -stored_zero(self.tensor, self.grid) * rows * columns
        total = acc[index] + T.broadcast(T.int32(missing), lanes)
        return total if self.pool.kind == "sum" else self._mean(total, y, x, lanes)

    def _mean(self, total: Any, y: Any, x: Any, lanes: int) -> Any:
        """float32, over the taps that are not padded."""
        from tvm.script.ir_builder import tirx as T

        pool, (_, height, width, _) = self.pool, self.tensor.shape
        rows = taps_inside(y * pool.stride[0] - pool.padding[0], pool.kernel[0], height)
        columns = taps_inside(x * pool.stride[1] - pool.padding[1], pool.kernel[1], width)
        count = T.broadcast(T.cast(rows * columns, "float32"), lanes)
        return T.cast(total, f"float32x{lanes}") / count

    def _add(self, acc: Any, n: Any, y: Any, x: Any, c: Any, row: Any, column: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        lanes = int(acc.shape[0])
        index = T.ramp(0, 1, lanes)
        pool = self.pool
        at = (y * pool.stride[0] + row, x * pool.stride[1] + column)
        stored = self.stored(n, at, c, lanes)
        if pool.kind == "max":
            T.buffer_store(acc, T.max(acc[index], stored), [index])
        else:
            T.buffer_store(acc, acc[index] + T.cast(stored, f"int32x{lanes}"), [index])

    def stored(self, n: Any, at: tuple[Any, Any], c: Any, lanes: int) -> Any:
        """Channels from `c` of a row and a column, counted from where padding begins."""
        from tvm.script.ir_builder import tirx as T

        pool, (_, height, width, _) = self.pool, self.tensor.shape
        y, x = at[0] - pool.padding[0], at[1] - pool.padding[1]
        if pool.kind == "max" and self.clamped:
            y, x = _nearest(y, height), _nearest(x, width)
        top, left, _, _ = self.layout.padding
        return self.arg[n, y + top, x + left, T.ramp(c, 1, lanes)]


def _nearest(position: Any, length: int) -> Any:
    """The pixel at the edge stands for a padded tap: it is in the same window, so that the
    maximum does not change."""
    from tvm.script.ir_builder import tirx as T

    return T.min(T.max(position, 0), length - 1)
