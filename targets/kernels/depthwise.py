"""`Depthwise`: one filter per channel; vectors over channels, taps unrolled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.convolution import (
    Geometry,
    cut,
    largest_stored,
    operand_of,
)
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.storable import lanes_for
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Conv, Grid, Step

MOST_TAPS = 49  # all are unrolled
INT16_MAX = (1 << 15) - 1


class Depthwise:
    """rows > blocks of `lanes` channels > column tiles: a row's blocks share cache lines."""

    name = "depthwise"
    version = 1

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        conv = operand_of(step, tensors)
        if conv is None:
            return False
        outputs, rows, columns, depth = conv.weights.shape
        return conv.groups == outputs and depth == 1 and rows * columns <= MOST_TAPS

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        width = tensors[step.outputs[0].tensor].shape[2]
        tiles = dict.fromkeys(min(columns, width) for columns in (4, 2, 1))
        return [{"columns": columns} for columns in tiles]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Geometry.of(step, tensors).operand

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        geometry = Geometry.of(step, tensors)
        lanes = lanes_for(geometry.shape[3], isa)
        weights = Weights(arrange(geometry.conv, lanes), geometry.conv.weight_grid)
        start = geometry.start_values(lanes)
        source = Buffer(tensor=geometry.conv.input, layout=geometry.find(layouts))
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(self.name)
            arg = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.declare()
            start_arg = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            epilogue.fill_borders()
            weights.allocate()
            weights.unpack(0)
            nest = Nest(
                geometry=geometry,
                layout=source.layout,
                source=arg,
                start=start_arg,
                weights=weights,
                lanes=lanes,
            )
            nest.emit(epilogue, schedule["columns"])
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
            scratch_bytes=weights.scratch_bytes,
        )


def arrange(conv: Conv, lanes: int) -> NDArray[np.int32]:
    """Weights as one tile `[1, blocks * KH * KW * lanes]`, zero past the last channel."""
    channels, rows, columns, _ = conv.weights.shape
    missing = stored_channels(channels) - channels
    flat = np.pad(conv.weights.reshape(channels, rows * columns), ((0, missing), (0, 0)))
    return flat.reshape(-1, lanes, rows * columns).transpose(0, 2, 1).reshape(1, -1)


def exact_runs(taps: int, stored: int, grid: Grid) -> Iterator[range]:
    """Runs of taps whose products add up within int16, whatever the codes are."""
    product = stored * max(abs(grid.low), abs(grid.high))
    length = max(1, INT16_MAX // product)
    for first in range(0, taps, length):
        yield range(first, min(first + length, taps))


@dataclass(frozen=True, kw_only=True, eq=False)
class Nest:
    """The loops, over TIR buffers."""

    geometry: Geometry
    layout: Layout
    source: Any
    start: Any
    weights: Weights
    lanes: int

    def emit(self, epilogue: Any, columns: int) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, width, channels = self.geometry.shape
        blocks = stored_channels(channels) // self.lanes
        with T.serial(0, batch) as n, T.serial(0, height) as y, T.serial(0, blocks) as block:
            for tile in cut(width, columns):
                with T.serial(0, tile.count) as i:
                    for column in range(tile.step):
                        x = tile.start + i * tile.step + column
                        acc = self._sum(block, n, y, x)
                        epilogue.store(acc, n, y, x, block * self.lanes)

    def _sum(self, block: Any, n: Any, y: Any, x: Any) -> Any:
        """The accumulators of one pixel, as an expression."""
        from tvm.script.ir_builder import tirx as T

        _, rows, columns, _ = self.geometry.conv.weights.shape
        grid = self.weights.grid
        # Sums of products that fit 16 bits are widened once per run, not once per tap.
        narrow = "int16" if grid.high <= 127 else "int32"
        total = self.start[T.ramp(block * self.lanes, 1, self.lanes)]
        for run in exact_runs(rows * columns, largest_stored(self.geometry.grid), grid):
            part = None
            for tap in run:
                product = self._product(block, n, y, x, tap, narrow)
                part = product if part is None else part + product
            total = total + T.cast(part, f"int32x{self.lanes}")
        return total

    def _product(self, block: Any, n: Any, y: Any, x: Any, tap: int, dtype: str) -> Any:
        from tvm.script.ir_builder import tirx as T

        lanes = self.lanes
        _, rows, columns, _ = self.geometry.conv.weights.shape
        row, column = self.geometry.pixel(self.layout, y, x, tap // columns, tap % columns)
        stored = self.source[n, row, column, T.ramp(block * lanes, 1, lanes)]
        weight = self.weights.load((block * rows * columns + tap) * lanes, lanes)
        return T.cast(stored, f"{dtype}x{lanes}") * T.cast(weight, f"{dtype}x{lanes}")
