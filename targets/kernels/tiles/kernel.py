"""`TileKernel`: dense convolutions of byte activations, by products of tiles.

Any weight width, as for `DotKernel`: narrow weights take less memory and are restored to bytes
(`tiles/weights.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_inner import dot_operand, start_values
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.geometry import operand_of_dense, padded_buffer, stored_zero
from mpqdeploy.targets.kernels.packing import is_narrow
from mpqdeploy.targets.kernels.register_tiles import AT_HAND, channel_vectors, divisors
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.tiles.micro import OUT, TILES, Micro
from mpqdeploy.targets.kernels.tiles.nest import TileNest
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.setup import Setup, flattened
from mpqdeploy.targets.kernels.tiles.weights import tile_weights
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Grid, Step

LEAST_COLUMNS = 4  # pixels of a tile: with fewer, loading weights takes all the time
BLOCKINGS = (Blocking(1, 2), Blocking(2, 1), Blocking(1, 1), Blocking(1, 2, apart=True))
# Products of a sum, up to which two vectors of output channels are made in turn: activations are
# loaded for each, and the epilogue, which has two vectors to store together, has no time to spare.
MOST_APART = 1
# Tiles of pixels of a long row at a time, where not all of them: with fewer tiles in use, weights
# are read once more. Many narrow ones are restored for one use alone, which is faster than either.
IN_PASSES = 2


class TileKernel:
    """Convolutions whose output rows fill a part of a tile's rows, `least_columns` or more."""

    version = 5

    def __init__(self, micro: Micro, *, least_columns: int = LEAST_COLUMNS) -> None:
        self.micro = micro
        self.name = micro.name
        self._least_columns = least_columns

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        conv = dot_operand(step, tensors)
        if isa != self.micro.isa or conv is None:
            return False
        return Plan.of(Reading.of(step, tensors)).columns >= self._least_columns

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        reading = Reading.of(step, tensors)
        plan = Plan.of(reading)
        vectors = channel_vectors(plan.geometry.out_channels, OUT)
        flat = flattened(plan, step, tensors, reading.operand)
        found: list[tuple[Blocking, bool]] = []
        if flat:
            fitting = [n for n in divisors(vectors, TILES) if Blocking(flat.tiles, n).fits]
            found.append((Blocking(flat.tiles, fitting[-1]), True))
            grid = operand_of_dense(step, tensors)[0].weight_grid
            few = flat.products * flat.depth * OUT <= AT_HAND  # of a tile of output channels
            if flat.tiles > IN_PASSES and (few or not is_narrow(grid)):
                found.append((Blocking(IN_PASSES, 1), True))
        for blocking in BLOCKINGS:
            if vectors % blocking.vectors or blocking.pixels > plan.tiles:
                continue
            if plan.products <= MOST_APART or not blocking.apart:
                found.append((blocking, False))
        return [_schedule(blocking, flat=flat) for blocking, flat in found]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Reading.of(step, tensors).operand

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        operand = Reading.of(step, tensors).operand
        source = padded_buffer(operand.kind, conv.input, layouts, operand.padding)
        setup = Setup.of(step, tensors, source.layout, schedule)
        plan, blocking, copy = setup.plan, setup.blocking, setup.copy
        start = start_values(conv.weights, stored_zero(tensor, grid), OUT)
        weights = tile_weights(setup.codes, stored_grid(plan, conv.weight_grid), plan, blocking)
        config = blocking.shape(plan).config()
        tables = self.micro.tables
        epilogue = Epilogue(step, tensors, layouts, lanes=OUT, isa=isa, tables=tables)
        nest = TileNest(plan, self.micro, blocking, weights)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.packed.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            sizes = T.arg("sizes", T.buffer(config.shape, "uint8"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                nest.bind(copy.copied(buffer) if copy else buffer, start_buffer)
                with self.micro.ready(sizes):
                    nest.emit(setup.origin, epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.packed.constants, start, config, *epilogue.constants),
            writes=epilogue.writes,
        )


def stored_grid(plan: Plan, grid: Grid) -> Grid:
    """Of weights in memory. Those of bytes that are no channel are 0, which +1 and -1 have no code
    for: with such bytes, they take two bits each."""
    return Grid(bits=2, signed=True) if grid.bipolar and not plan.whole else grid


def _schedule(blocking: Blocking, *, flat: bool) -> Schedule:
    return {
        "pixels": blocking.pixels,
        "vectors": blocking.vectors,
        "apart": int(blocking.apart),
        "flat": int(flat),
    }
