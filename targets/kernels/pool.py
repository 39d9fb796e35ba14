"""Pooling over codes: maximum, and sum of (code - zero point)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.float_pool import taps_inside
from mpqdeploy.targets.kernels.geometry import INT32_MAX, stored_zero, zero_is_storable
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.storable import fits_bytes, lanes_for, storable
from mpqdeploy.targets.layout import Layout, Layouts, storage_offset, stored_channels
from mpqdeploy.targets.program import Grid, Pool, Step, Tensor

UNROLLED_TAPS = 16


class Pooling:
    """Any window, stride and padding; vectors over channels."""

    name = "pool"
    version = 4

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        if not isinstance(step.anchor, Pool):
            return False
        source = tensors[step.anchor.input]
        if source.grid is None or not fits_bytes(source) or not storable(step, tensors):
            return False
        taps = step.anchor.kernel[0] * step.anchor.kernel[1]
        if step.anchor.kind == "max":
            return True
        return zero_is_storable(source, source.grid) and 2 * 255 * taps <= INT32_MAX

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return ({},)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        """A maximum repeats the pixels at the edge instead of reading a border."""
        pool = _pool(step)
        if pool.kind == "max":
            return Layout(kind="bytes")
        return Layout(kind="bytes", padding=_reach(pool, step, tensors))

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        pool = _pool(step)
        source = Buffer(
            tensor=pool.input,
            layout=next(layout for layout in layouts[pool.input] if layout.kind == "bytes"),
        )
        batch, height, width, channels = tensors[step.outputs[0].tensor].shape
        lanes = lanes_for(channels, isa)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name("pool")
            arg = declare("source", source, tensors)
            epilogue.declare_reads()
            epilogue.declare_constants()
            epilogue.declare_writes()
            vectors = _at_once(pool, stored_channels(channels) // lanes, epilogue.at_once)
            window = Window(
                pool=pool,
                tensor=tensors[pool.input],
                layout=source.layout,
                arg=arg,
                lanes=vectors * lanes,
                clamped=any(_reach(pool, step, tensors)),
            )
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                kind = "uint8" if pool.kind == "max" else "int32"
                acc = T.alloc_buffer((vectors * lanes,), kind)
                with (
                    T.serial(0, batch) as n,
                    share.loop(height) as y,
                    T.serial(0, width) as x,
                    T.serial(0, stored_channels(channels) // (vectors * lanes)) as block,
                    epilogue.together(),
                ):
                    first = block * vectors * lanes
                    value = window.reduce(acc, n, y, x, first)
                    for part in range(vectors):
                        values = _part(value, part, lanes) if vectors > 1 else value
                        epilogue.store(values, n, y, x, first + part * lanes)
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=epilogue.constants,
            writes=epilogue.writes,
        )


def _at_once(pool: Pool, vectors: int, most: int) -> int:
    """Vectors of channels whose maxima are taken together, as bytes; sums are no bytes."""
    return most if pool.kind == "max" and vectors % most == 0 else 1


def _part(vector: Any, part: int, lanes: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.Shuffle([vector], list(range(part * lanes, (part + 1) * lanes)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The taps of one output element; `arg` is the TIR buffer of the input's bytes layout."""

    pool: Pool
    tensor: Tensor
    layout: Layout
    arg: Any
    lanes: int
    clamped: bool  # some tap lies outside the input

    @property
    def grid(self) -> Grid:
        if self.tensor.grid is None:
            raise ValueError(f"{self.tensor.name} has no integer grid to pool over")
        return self.tensor.grid

    def reduce(self, acc: Any, n: Any, y: Any, x: Any, c: Any) -> Any:
        """Emits the reduction into `acc`; returns it as exact int32 codes, or sums."""
        from tvm.script.ir_builder import tirx as T

        index = T.ramp(0, 1, self.lanes)
        zero = T.broadcast(T.cast(T.int32(0), str(acc.dtype)), self.lanes)
        T.buffer_store(acc, zero, [index])
        rows, columns = self.pool.kernel
        if rows * columns <= UNROLLED_TAPS:
            for row, column in np.ndindex(rows, columns):
                self._add(acc, n, y, x, c, int(row), int(column))
        else:
            with T.serial(0, rows) as row, T.serial(0, columns) as column:
                self._add(acc, n, y, x, c, row, column)
        if self.pool.kind == "max":
            codes = T.cast(acc[index], f"int32x{self.lanes}")
            return codes + T.broadcast(T.int32(storage_offset(self.grid)), self.lanes)
        missing = -stored_zero(self.tensor, self.grid) * rows * columns
        total = acc[index] + T.broadcast(T.int32(missing), self.lanes)
        return total if self.pool.kind == "sum" else self._mean(total, y, x)

    def _mean(self, total: Any, y: Any, x: Any) -> Any:
        """float32, over the taps that are not padded."""
        from tvm.script.ir_builder import tirx as T

        pool, (_, height, width, _) = self.pool, self.tensor.shape
        rows = taps_inside(y * pool.stride[0] - pool.padding[0], pool.kernel[0], height)
        columns = taps_inside(x * pool.stride[1] - pool.padding[1], pool.kernel[1], width)
        count = T.broadcast(T.cast(rows * columns, "float32"), self.lanes)
        return T.cast(total, f"float32x{self.lanes}") / count

    def _add(self, acc: Any, n: Any, y: Any, x: Any, c: Any, row: Any, column: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        index = T.ramp(0, 1, self.lanes)
        pool, (_, height, width, _) = self.pool, self.tensor.shape
        at_y = y * pool.stride[0] + row - pool.padding[0]
        at_x = x * pool.stride[1] + column - pool.padding[1]
        if pool.kind == "max" and self.clamped:
            at_y, at_x = _nearest(at_y, height), _nearest(at_x, width)
        top, left, _, _ = self.layout.padding
        stored = self.arg[n, at_y + top, at_x + left, T.ramp(c, 1, self.lanes)]
        if pool.kind == "max":
            T.buffer_store(acc, T.max(acc[index], stored), [index])
        else:
            T.buffer_store(acc, acc[index] + T.cast(stored, f"int32x{self.lanes}"), [index])


def _nearest(position: Any, length: int) -> Any:
    """The pixel at the edge stands for a padded tap: it is in the same window, so that the
    maximum does not change."""
    from tvm.script.ir_builder import tirx as T

    return T.min(T.max(position, 0), length - 1)


def _reach(pool: Pool, step: Step, tensors: Tensors) -> tuple[int, int, int, int]:
    """The least padding that covers every tap of every output."""
    _, height, width, _ = tensors[pool.input].shape
    _, rows, columns, _ = tensors[step.outputs[0].tensor].shape
    top, left, _, _ = pool.padding
    bottom = (rows - 1) * pool.stride[0] + pool.kernel[0] - top - height
    right = (columns - 1) * pool.stride[1] + pool.kernel[1] - left - width
    return top, left, max(bottom, 0), max(right, 0)


def _pool(step: Step) -> Pool:
    if not isinstance(step.anchor, Pool):
        raise ValueError(f"{step.name} is no pooling")
    return step.anchor
