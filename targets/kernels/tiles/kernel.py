"""`TileKernel`: dense convolutions of byte activations, by products of tiles.

Any weight width, as for `DotKernel`: narrow weights take less memory and are restored to bytes
(`tiles/weights.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_inner import dot_operand, start_values
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.geometry import operand_of_dense, padded_buffer, stored_zero
from mpqdeploy.targets.kernels.nest import channel_vectors, divisors
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.tiles.micro import OUT, TILES, Micro
from mpqdeploy.targets.kernels.tiles.nest import TileNest
from mpqdeploy.targets.kernels.tiles.pairs import HALF, Pairs, paired, paired_weights
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.weights import tile_weights
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Conv, Step

LEAST_COLUMNS = 4  # pixels of a tile: with fewer, loading weights takes all the time
BLOCKINGS = ((1, 2), (2, 1), (1, 1))  # tiles of pixels by vectors of output channels
MOST_SUMS = TILES - 2  # a tile of activations and one of weights go with them
NARROW = 11  # columns: products of so few pixels wait for each other's sums


class TileKernel:
    """Convolutions whose output rows fill a part of a tile's rows, `least_columns` or more."""

    version = 2

    def __init__(self, micro: Micro, *, least_columns: int = LEAST_COLUMNS) -> None:
        self.micro = micro
        self.name = micro.name
        self._least_columns = least_columns

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        conv = dot_operand(step, tensors)
        if isa != self.micro.isa or conv is None:
            return False
        plan = Plan.of(Reading.of(step, tensors))
        # Bipolar weights are never 0, as those of what is no channel must be.
        return plan.columns >= self._least_columns and (plan.whole or not conv.weight_grid.bipolar)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        reading = Reading.of(step, tensors)
        plan = Plan.of(reading)
        vectors = channel_vectors(plan.geometry.out_channels, OUT)
        flat = flattened(plan, step, tensors, reading.operand)
        found: list[Schedule] = []
        if flat:
            widest = divisors(vectors, MOST_SUMS // flat.tiles)[-1]
            found.append({"pixels": flat.tiles, "vectors": widest, "flat": 1})
        for pixels, wanted in BLOCKINGS:
            if vectors % wanted == 0 and pixels <= plan.tiles:
                found.append({"pixels": pixels, "vectors": wanted, "flat": 0})
        return found

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
        source = padded_buffer(operand.kind, conv.input, layouts, operand.padding)
        blocking = Blocking(schedule["pixels"], schedule["vectors"])
        flat = flattened(plan, step, tensors, source.layout) if schedule["flat"] else None
        if flat and flat.tiles * blocking.vectors <= MOST_SUMS:
            plan, blocking = flat, Blocking(flat.tiles, blocking.vectors)
        elif schedule["flat"]:  # another reader wants a wider border: the rows lie too far apart
            blocking = Blocking(1, blocking.vectors)
        start = start_values(conv.weights, stored_zero(tensor, grid), OUT)
        origin, kernel_weights = plan.geometry.origin(source.layout), reading.weights
        pairs = None
        two_rows = paired_rows(plan, conv, source.layout, tensor.shape)
        if two_rows:
            pairs = Pairs.of(plan, *padded_size(source.layout, tensor.shape), origin[0])
            plan, origin = two_rows, (0, origin[1])
            kernel_weights = paired_weights(conv.weights, pairs.pixel)
        codes = plan.weights(kernel_weights, blocking.vectors)
        weights = tile_weights(codes, conv.weight_grid, plan.products, blocking.blocks(plan))
        config = blocking.shape(plan).config()
        epilogue = Epilogue(step, tensors, layouts, lanes=OUT, isa=isa)
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
                if pairs:
                    copied = pairs.allocate(plan.geometry.batch)
                    pairs.emit(buffer, copied)
                nest.bind(copied if pairs else buffer, start_buffer)
                with self.micro.ready(sizes):
                    nest.emit(origin, epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.packed.constants, start, config, *epilogue.constants),
            writes=epilogue.writes,
        )


def padded_size(layout: Layout, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor of this shape in such a buffer."""
    top, left, bottom, right = layout.padding
    return top + shape[1] + bottom, left + shape[2] + right


def paired_rows(plan: Plan, conv: Conv, layout: Layout, shape: tuple[int, ...]) -> Plan | None:
    """`plan` on pairs of rows; None where that is no better, or where rows are short."""
    _, width = padded_size(layout, shape)
    if conv.weight_grid.bipolar or width * plan.pixel < HALF:
        return None
    return paired(plan, conv.weights.shape[2])


def flattened(plan: Plan, step: Step, tensors: Tensors, layout: Layout) -> Plan | None:
    """`plan` for an image as one long row, in a buffer of this layout; None where rows fill tiles,
    or where that is more than one block."""
    geometry = plan.geometry
    if geometry.stride != (1, 1) or geometry.out_width > NARROW or geometry.out_height == 1:
        return None
    _, pitch = padded_size(layout, operand_of_dense(step, tensors)[1].shape)
    flat = replace(plan, pitch=pitch)
    return flat if flat.tiles <= MOST_SUMS else None
