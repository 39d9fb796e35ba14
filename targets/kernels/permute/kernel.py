"""`PermuteKernel`: 1- and 2-bit weights, activations of up to 6 bits.

Signs take half of the tables (`Mirrored`), where five activations fit a byte; other weights, and
kernels whose columns lie apart, take all (`Sets`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_inner import start_values
from mpqdeploy.targets.kernels.flush import lowered
from mpqdeploy.targets.kernels.following import Following
from mpqdeploy.targets.kernels.geometry import (
    INT32_MAX,
    bytes_buffer,
    dense,
    dense_operand,
    operand_of_dense,
    stored_zero,
)
from mpqdeploy.targets.kernels.larger_sums import with_larger_sums
from mpqdeploy.targets.kernels.lookup import (
    MIN_CHANNELS,
    largest_looked_up,
    start_of_lookups,
)
from mpqdeploy.targets.kernels.lookup_nest import plane_factors
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.permute import mirrored, sets
from mpqdeploy.targets.kernels.permute.lookups import Lookups
from mpqdeploy.targets.kernels.permute.micro import Micro, Vpermb
from mpqdeploy.targets.kernels.permute.ring import RingNest
from mpqdeploy.targets.kernels.pooled_sums import pools_sums
from mpqdeploy.targets.kernels.register_tiles import Tile, tiles_for
from mpqdeploy.targets.kernels.shares import SHARES, sharing
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Conv, Grid, Step, Tensor

MAX_WEIGHT_BITS = 2
MAX_ACT_BITS = 6  # four activations then add up to 252
VECTORS = (2, 1)  # of output channels, that share a pixel's tables: each has indices of its own
MAX_TABLE_BYTES = 1 << 20  # all tables of an image: they are read from the second-level cache


class PermuteKernel:
    """A lookup takes 256 one-bit products with 16 lanes, or 320."""

    version = 10

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
        # Two planes add up to 3 times the products, and signs to so many times those.
        return (
            narrow
            and channels >= MIN_CHANNELS
            and 2 * (1 << mirrored.LIFT) * products <= INT32_MAX
            and _table_bytes(tensor, conv, grid) <= MAX_TABLE_BYTES
        )

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        conv, _, grid = operand_of_dense(step, tensors)
        geometry = dense(step, tensors)
        apart, shared = _registers(conv, grid)
        mirrors = _mirrors(conv, grid)
        found: list[Schedule] = []
        for wide in VECTORS:
            left = self.micro.registers - shared - apart * wide
            for tile in tiles_for(geometry, isa.lanes, min(left, self.micro.accumulators)):
                if tile.vectors == wide:
                    sizes = {"rows": tile.rows, "columns": tile.columns, "vectors": wide}
                    parts = mirrored.parts_for(geometry, tile, isa.lanes) if mirrors else 1
                    found += [{**sizes, "parts": parts}] if parts > 1 else []
                    found.append(sizes)
        return found

    def takes_pool(self, step: Step, tensors: Tensors, isa: Isa, schedule: Schedule) -> bool:
        """Where tables of some rows at a time are kept."""
        if not isinstance(step.anchor, Conv) or step.anchor.pool is None or SHARES in schedule:
            return False
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        inner, _ = self._lookups(step, tensors, tile)
        return inner.ring and pools_sums(step.anchor.pool, inner.geometry, tile)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bytes", padding=dense(step, tensors).padding)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv = operand_of_dense(step, tensors)[0]
        geometry = dense(step, tensors)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        source = bytes_buffer(conv.input, layouts, geometry.padding)
        inner, start = self._lookups(step, tensors, tile, schedule.get("parts", 1))
        nest = (
            RingNest(isa, tile, inner, conv.pool)
            if inner.ring
            else RegisterNest(inner.geometry, isa, tile, inner)
        )
        tables = isinstance(self.micro, Vpermb)
        scaled, left = with_larger_sums(step, inner.lift)
        epilogue = Epilogue(scaled, tensors, layouts, lanes=isa.lanes, isa=isa, tables=tables)
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
                following = Following.of(schedule, start_buffer)
                store = lowered(epilogue.store, left, isa.lanes)
                nest.emit(origin, store, epilogue, share, following)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*inner.weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
        )

    def _lookups(
        self, step: Step, tensors: Tensors, tile: Tile, parts: int = 1
    ) -> tuple[Lookups, NDArray[np.int32]]:
        """The lookups, in parts, and what accumulators start at."""
        conv, tensor, grid = operand_of_dense(step, tensors)
        geometry, lanes = dense(step, tensors), self.micro.isa.lanes
        weights, largest = conv.weights, largest_looked_up(grid, conv.weight_grid)
        if not _mirrors(conv, grid):
            inner = sets.Sets(geometry, self.micro, tile, weights, conv.weight_grid, largest)
            return inner, start_of_lookups(conv, tensor, grid, lanes)
        start = start_values(weights, stored_zero(tensor, grid), lanes)
        start[: len(weights)] -= mirrored.added_by_mirrors(weights, largest)
        signs = mirrored.Mirrored(geometry, self.micro, tile, weights, largest, parts)
        return signs, start << mirrored.LIFT


def _mirrors(conv: Conv, grid: Grid) -> bool:
    """Whether signs are looked up in half of their tables."""
    bipolar, together = conv.weight_grid.bipolar, conv.dilation[1] == 1
    fits = mirrored.GROUP * largest_looked_up(grid, conv.weight_grid) <= 255
    return bipolar and together and fits


def _registers(conv: Conv, grid: Grid) -> tuple[int, int]:
    """Registers that hold operands, for every vector of output channels, and for all."""
    if _mirrors(conv, grid):
        return 2, 1  # indices and signs
    planes = len(plane_factors(conv.weight_grid))
    channels, largest = conv.weights.shape[3], largest_looked_up(grid, conv.weight_grid)
    return planes * sets.chunks_at_once(channels, largest), planes


def _table_bytes(tensor: Tensor, conv: Conv, grid: Grid) -> int:
    """Of all images, borders included: the least that the tables take."""
    batch, height, width, channels = tensor.shape
    top, left, bottom, right = conv.padding
    pixels = batch * (height + top + bottom) * (width + left + right)
    of_pixel = mirrored.table_bytes if _mirrors(conv, grid) else sets.table_bytes
    return pixels * of_pixel(channels)
