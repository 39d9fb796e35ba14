"""`Direct`: any convolution on any instruction-set level, in plain vectors. The catch-all.

Accumulators have 32 bits, and 64 where the actual weights do not prove that 32 are enough.

    blocks of `lanes` output channels (weights restored to bytes) > images > rows > column tiles
        > accumulators: kernel rows > kernel columns > the block's input channels

Lanes of a block that belong to different groups read different input channels. So every block reads
one window of channels that covers all its groups, with weight 0 where a lane's group has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.convolution import (
    Geometry,
    bytes_operand,
    column_tiles,
    multiply,
)
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.shares import Share, sharing
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.kernels.storable import lanes_for
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Conv, Grid, Step


class Direct:
    """Groups, dilation, any stride and padding; one column of the tile is one accumulator."""

    name = "direct"
    version = 2

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return bytes_operand(step, tensors) is not None

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return column_tiles(step, tensors)

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
        windows = Windows.of(geometry.conv, lanes)
        weights = Weights(windows.codes, windows.grid)
        start = geometry.start_values(lanes)
        source = Buffer(tensor=geometry.conv.input, layout=geometry.find(layouts))
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(self.name)
            arg = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.declare()
            start_arg = T.arg("start", T.buffer(start.shape, str(start.dtype)))
            first_arg = T.arg("first", T.buffer(windows.first.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                weights.allocate()
                nest = Nest(
                    geometry=geometry,
                    layout=source.layout,
                    source=arg,
                    start=start_arg,
                    first=first_arg,
                    weights=weights,
                    depth=windows.depth,
                    lanes=lanes,
                    accs=[
                        T.alloc_buffer((lanes,), str(start.dtype))
                        for _ in range(schedule["columns"])
                    ],
                )
                nest.emit(epilogue, share)
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, start, windows.first, *epilogue.constants),
            writes=epilogue.writes,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Weights rearranged for blocks of `lanes` output channels.

    `codes`: `[blocks, KH * KW * depth * lanes]`; `first`: int32 `[blocks]`, the first of the
    `depth` input channels that a block reads.
    """

    codes: NDArray[np.int32]
    grid: Grid
    first: NDArray[np.int32]
    depth: int

    @classmethod
    def of(cls, conv: Conv, lanes: int) -> Windows:
        codes, first, depth = rearranged(conv.weights, conv.groups, lanes)
        grid = conv.weight_grid
        if grid.bipolar and depth > conv.weights.shape[3]:
            grid = replace(grid, bits=2, signed=True, narrow=False, bipolar=False)
        return cls(codes=codes, grid=grid, first=first, depth=depth)


def rearranged(
    weights: NDArray[Any], groups: int, lanes: int
) -> tuple[NDArray[Any], NDArray[np.int32], int]:
    """Weights `[O, KH, KW, I/groups]` as `Windows` has them: codes (or floats), first, depth."""
    outputs, rows, columns, depth = weights.shape
    each = outputs // groups
    blocks = stored_channels(outputs) // lanes
    group = np.minimum(np.arange(blocks * lanes), outputs - 1).reshape(blocks, lanes) // each
    low = group[:, 0] * depth
    width = int(((group[:, -1] + 1) * depth - low).max())
    low = np.minimum(low, groups * depth - width)
    codes = np.zeros((blocks, rows, columns, width, lanes), weights.dtype)
    for channel in range(outputs):
        block, lane = divmod(channel, lanes)
        at = group[block, lane] * depth - low[block]
        codes[block, :, :, at : at + depth, lane] = weights[channel]
    return codes.reshape(blocks, -1), low.astype(np.int32), width


@dataclass(frozen=True, kw_only=True, eq=False)
class Nest:
    """The loops, over TIR buffers."""

    geometry: Geometry
    layout: Layout
    source: Any
    start: Any
    first: Any
    weights: Weights
    depth: int
    lanes: int
    accs: list[Any]

    def emit(self, epilogue: Any, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, width, _ = self.geometry.shape
        index = T.ramp(0, 1, self.lanes)
        with T.serial(0, self.first.shape[0]) as block:
            self.weights.unpack(block)
            with T.serial(0, batch) as n, share.loop(height) as y:
                for tile in cut(width, len(self.accs)):
                    with T.serial(0, tile.count) as i:
                        x = tile.start + i * tile.step
                        self._accumulate(block, n, y, x, tile.step)
                        for column in range(tile.step):
                            value = self.accs[column][index]
                            epilogue.store(value, n, y, x + column, block * self.lanes)

    def _accumulate(self, block: Any, n: Any, y: Any, x: Any, columns: int) -> None:
        """Emits the sums of `columns` pixels from (n, y, x)."""
        from tvm.script.ir_builder import tirx as T

        lanes = self.lanes
        index = T.ramp(0, 1, lanes)
        for acc in self.accs[:columns]:
            T.buffer_store(acc, self.start[T.ramp(block * lanes, 1, lanes)], [index])
        _, rows, width, _ = self.geometry.conv.weights.shape
        with T.serial(0, rows) as kh, T.serial(0, width) as kw, T.serial(0, self.depth) as i:
            weight = T.bind(self.weights.load(((kh * width + kw) * self.depth + i) * lanes, lanes))
            for column, acc in enumerate(self.accs[:columns]):
                row, at = self.geometry.pixel(self.layout, y, x + column, kh, kw)
                byte = self.source[n, row, at, self.first[block] + i]
                product = multiply(T.broadcast(byte, lanes), weight, self.weights.grid, lanes)
                total = acc[index] + T.cast(product, f"{acc.dtype}x{lanes}")
                T.buffer_store(acc, total, [index])
