"""`PermuteKernel`: 1- and 2-bit weights, activations of up to 6 bits."""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import (
    INT32_MAX,
    bytes_buffer,
    dense,
    dense_operand,
    operand_of_dense,
)
from mpqdeploy.targets.kernels.lookup import (
    MIN_CHANNELS,
    largest_looked_up,
    start_of_lookups,
)
from mpqdeploy.targets.kernels.lookup_nest import plane_factors
from mpqdeploy.targets.kernels.nest import RegisterNest, Tile, tiles_for
from mpqdeploy.targets.kernels.permute.inner import PermuteInner, chunks_at_once
from mpqdeploy.targets.kernels.permute.micro import CHUNK, TABLES, Micro
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Conv, Step, Tensor

MAX_WEIGHT_BITS = 2
MAX_ACT_BITS = 6  # four activations then add up to 252
VECTORS = (2, 1)  # of output channels, that share a pixel's tables: each has indices of its own
MAX_TABLE_BYTES = 1 << 20  # all tables of an image: they are read from the second-level cache


class PermuteKernel:
    """A lookup takes 256 one-bit products and an addition 1024: two instructions and a load."""

    version = 4

    def __init__(self, micro: Micro) -> None:
        self.micro = micro
        self.name = micro.name

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if isa != self.micro.isa or found is None:
            return False
        conv, tensor, grid = found
        narrow = conv.weight_grid.bits <= MAX_WEIGHT_BITS and grid.bits <= MAX_ACT_BITS
        channels = conv.weights.shape[3]
        products = conv.weights[0].size * largest_looked_up(grid, conv.weight_grid)
        # Two planes add up to 3 times the products.
        return (
            narrow
            and channels >= MIN_CHANNELS
            and 2 * 3 * products <= INT32_MAX
            and _table_bytes(tensor, conv) <= MAX_TABLE_BYTES
        )

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        conv, _, grid = operand_of_dense(step, tensors)
        geometry, planes = dense(step, tensors), len(plane_factors(conv.weight_grid))
        chunks = chunks_at_once(geometry.in_channels, largest_looked_up(grid, conv.weight_grid))
        found: list[Schedule] = []
        for wide in VECTORS:
            left = self.micro.registers - planes * (1 + chunks * wide)
            for tile in tiles_for(geometry, isa.lanes, min(left, self.micro.accumulators)):
                if tile.vectors == wide:
                    sizes = {"rows": tile.rows, "columns": tile.columns, "vectors": wide}
                    found.append(sizes)
        return found

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bytes", padding=dense(step, tensors).padding)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        geometry = dense(step, tensors)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        source = bytes_buffer(conv.input, layouts, geometry.padding)
        start = start_of_lookups(conv, tensor, grid, isa.lanes)
        largest = largest_looked_up(grid, conv.weight_grid)
        inner = PermuteInner(
            geometry, self.micro, tile.vectors, conv.weights, conv.weight_grid, largest
        )
        nest = RegisterNest(geometry, isa, tile, inner)
        epilogue = Epilogue(step, tensors, layouts, lanes=isa.lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            inner.weights.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            inner.bind(buffer, start_buffer)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                origin = geometry.origin(source.layout)
                nest.emit(origin, epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*inner.weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
        )


def _table_bytes(tensor: Tensor, conv: Conv) -> int:
    """Of all images, borders included: the least that the tables take."""
    batch, height, width, channels = tensor.shape
    top, left, bottom, right = conv.padding
    pixels = batch * (height + top + bottom) * (width + left + right)
    return pixels * -(-channels // CHUNK) * TABLES
