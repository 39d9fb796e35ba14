"""`TileKernel`: dense convolutions of byte activations, by products of tiles.

Any weight width, as for `DotKernel`: narrow weights take less memory and are restored to bytes,
once for every tile of output channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_inner import start_values
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.geometry import (
    cannot_overflow,
    dense_operand,
    largest_stored,
    operand_of_dense,
    padded_buffer,
    stored_zero,
)
from mpqdeploy.targets.kernels.nest import channel_vectors
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.tiles.micro import OUT, Micro
from mpqdeploy.targets.kernels.tiles.nest import Blocking, TileNest
from mpqdeploy.targets.kernels.tiles.plan import Plan
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Step

LEAST_COLUMNS = 4  # pixels of a tile: with fewer, loading weights takes all the time
BLOCKINGS = (Blocking(2, 2), Blocking(4, 1), Blocking(1, 4))


class TileKernel:
    """Convolutions whose output rows fill a part of a tile's rows, `least_columns` or more."""

    version = 1

    def __init__(self, micro: Micro, *, least_columns: int = LEAST_COLUMNS) -> None:
        self.micro = micro
        self.name = micro.name
        self._least_columns = least_columns

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if isa != self.micro.isa or found is None:
            return False
        conv, _, grid = found
        fits = conv.weight_grid.low >= -128 and conv.weight_grid.high <= 127
        if not fits or not cannot_overflow(conv.weights, largest_stored(grid)):
            return False
        plan = Plan.of(Reading.of(step, tensors))
        # Bipolar weights are never 0, as those of what is no channel must be.
        return plan.columns >= self._least_columns and (plan.whole or not conv.weight_grid.bipolar)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        vectors = channel_vectors(Reading.of(step, tensors).geometry.out_channels, OUT)
        fitting = [each for each in BLOCKINGS if vectors % each.vectors == 0]
        return [{"pixels": each.pixels, "vectors": each.vectors} for each in fitting]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Reading.of(step, tensors).operand

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        reading = Reading.of(step, tensors)
        plan, operand = Plan.of(reading), reading.operand
        blocking = Blocking(schedule["pixels"], schedule["vectors"])
        source = padded_buffer(operand.kind, conv.input, layouts, operand.padding)
        start = start_values(conv.weights, stored_zero(tensor, grid), OUT)
        weights = Weights(plan.weights(reading.weights, blocking.vectors), conv.weight_grid)
        shape = blocking.shape(plan)
        config = shape.config()
        epilogue = Epilogue(step, tensors, layouts, lanes=OUT, isa=isa)
        nest = TileNest(plan, self.micro, blocking, weights)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            sizes = T.arg("sizes", T.buffer(config.shape, "uint8"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            nest.bind(buffer, start_buffer)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                with self.micro.ready(shape, sizes):
                    nest.emit(plan.geometry.origin(source.layout), epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, start, config, *epilogue.constants),
            writes=epilogue.writes,
        )
