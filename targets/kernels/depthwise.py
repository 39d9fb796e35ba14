"""`Depthwise`: one filter per channel; vectors over channels, taps unrolled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.convolution import (
    Geometry,
    column_tiles,
    operand_of,
)
from mpqdeploy.targets.kernels.depthwise_micro import micro_for
from mpqdeploy.targets.kernels.depthwise_nest import Nest
from mpqdeploy.targets.kernels.geometry import largest_stored
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.quads import Order
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.storable import lanes_for
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Conv, Step

MOST_TAPS = 49  # all are unrolled


class Depthwise:
    """rows > blocks of channels > column tiles: a row's blocks share cache lines."""

    name = "depthwise"
    version = 4

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        conv = operand_of(step, tensors)
        if conv is None:
            return False
        outputs, rows, columns, depth = conv.weights.shape
        one_each = bool(conv.groups == outputs and depth == 1)
        return one_each and rows * columns <= MOST_TAPS

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return column_tiles(step, tensors, (14, 8, 4))

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
        order = order_of(step, tensors, layouts, isa)
        weights = Weights(arrange(geometry.conv, lanes, micro.group, order), grid)
        start = geometry.start_values(lanes)
        if order is not None:
            start = start[order.positions]
        source = Buffer(tensor=geometry.conv.input, layout=geometry.find(layouts))
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa, order=order)
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
                weights=weights,
                lanes=lanes,
                order=order,
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


def order_of(step: Step, tensors: Tensors, layouts: Layouts, isa: Isa) -> Order | None:
    """Of the channels, where 64 are computed at a time: with instructions that multiply bytes, and
    an epilogue that packs them; None where they go vector by vector."""
    from mpqdeploy.targets.kernels.epilogue import takes_quads

    order = Order(stored_channels(tensors[step.outputs[0].tensor].shape[3]))
    grid = Geometry.of(step, tensors).conv.weight_grid
    if isa is not Isa.VNNI or grid.high > 127 or not (order.whole or order.paired):
        return None
    return order if takes_quads(step, tensors, layouts, isa) else None


def arrange(conv: Conv, lanes: int, group: int, order: Order | None = None) -> NDArray[np.int32]:
    """Weights as one tile, ordered block of channels, kernel column, group of rows, channel, row;
    0 past the last channel and the last row."""
    channels, rows, columns, _ = conv.weights.shape
    missing = ((0, stored_channels(channels) - channels), (0, -rows % group), (0, 0))
    padded = np.pad(conv.weights[..., 0], missing)
    if order is not None:
        padded = padded[order.positions]
    split = padded.reshape(-1, lanes, padded.shape[1] // group, group, columns)
    return split.transpose(0, 4, 2, 1, 3).reshape(1, -1)
