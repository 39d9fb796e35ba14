"""`Depthwise`: one filter per channel; vectors over channels, taps unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.convolution import (
    Geometry,
    column_tiles,
    operand_of,
)
from mpqdeploy.targets.kernels.depthwise_micro import Micro, micro_for
from mpqdeploy.targets.kernels.geometry import largest_stored
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.shares import Share, sharing
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.kernels.storable import lanes_for
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Conv, Step

MOST_TAPS = 49  # all are unrolled


class Depthwise:
    """rows > blocks of `lanes` channels > column tiles: a row's blocks share cache lines."""

    name = "depthwise"
    version = 2

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        conv = operand_of(step, tensors)
        if conv is None:
            return False
        outputs, rows, columns, depth = conv.weights.shape
        one_each = bool(conv.groups == outputs and depth == 1)
        return one_each and rows * columns <= MOST_TAPS

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
        grid = geometry.conv.weight_grid
        micro = micro_for(isa, lanes, grid, largest_stored(geometry.grid))
        weights = Weights(arrange(geometry.conv, lanes, micro.group), grid)
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
            nest = Nest(
                geometry=geometry,
                layout=source.layout,
                source=arg,
                start=start_arg,
                micro=micro,
                lanes=lanes,
            )
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                weights.allocate()
                weights.unpack(0)
                micro.prepare(weights)
                nest.emit(epilogue, schedule["columns"], share)
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
        )


def arrange(conv: Conv, lanes: int, group: int) -> NDArray[np.int32]:
    """Weights as one tile, ordered block of channels, kernel column, group of rows, channel, row;
    0 past the last channel and the last row."""
    channels, rows, columns, _ = conv.weights.shape
    missing = ((0, stored_channels(channels) - channels), (0, -rows % group), (0, 0))
    padded = np.pad(conv.weights[..., 0], missing)
    split = padded.reshape(-1, lanes, padded.shape[1] // group, group, columns)
    return split.transpose(0, 4, 2, 1, 3).reshape(1, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Nest:
    """The loops, over TIR buffers."""

    geometry: Geometry
    layout: Layout
    source: Any
    start: Any
    micro: Micro
    lanes: int

    def emit(self, epilogue: Any, columns: int, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, width, channels = self.geometry.shape
        blocks = stored_channels(channels) // self.lanes
        with T.serial(0, batch) as n, share.loop(height) as y, T.serial(0, blocks) as block:
            for tile in cut(width, columns):
                with T.serial(0, tile.count) as i:
                    x = tile.start + i * tile.step
                    sums = self._sums(block, n, y, x, tile.step)
                    with epilogue.together():
                        for column, acc in enumerate(sums):
                            epilogue.store(acc, n, y, x + column, block * self.lanes)

    def _sums(self, block: Any, n: Any, y: Any, x: Any, columns: int) -> list[Any]:
        """The accumulators of `columns` pixels from (n, y, x). All are bound before anything is
        stored, so that pixels share the words they have in common."""
        from tvm.script.ir_builder import tirx as T

        conv, group, lanes = self.geometry.conv, self.micro.group, self.lanes
        _, rows, width, _ = conv.weights.shape
        groups = -(-rows // group)
        start = self.start[T.ramp(block * lanes, 1, lanes)]
        words: dict[tuple[int, int], Any] = {}
        sums = []
        for column in range(columns):
            terms = []
            for kw, part in np.ndindex(width, groups):
                at = column * conv.stride[1] + kw * conv.dilation[1]
                if (at, part) not in words:
                    kept = range(part * group, min((part + 1) * group, rows))
                    loaded = [self._load(block, n, y, x, row, at) for row in kept]
                    words[at, part] = T.bind(self.micro.word(loaded))
                index = ((block * width + kw) * groups + part) * (lanes * group)
                terms.append((words[at, part], index))
            sums.append(T.bind(self.micro.accumulate(start, terms)))
        return sums

    def _load(self, block: Any, n: Any, y: Any, x: Any, row: int, at: int) -> Any:
        """Stored bytes of kernel row `row`, `at` columns right of where output x begins."""
        from tvm.script.ir_builder import tirx as T

        y_at, x_at = self.geometry.pixel(self.layout, y, x, row, 0)
        return self.source[n, y_at, x_at + at, T.ramp(block * self.lanes, 1, self.lanes)]
