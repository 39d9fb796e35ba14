"""`LookupKernel`: dense convolutions with 1- and 2-bit weights by table lookup in registers.

The narrower the activations, the more lookups fit a byte before it is flushed; up to 4 bits pay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_inner import start_values
from mpqdeploy.targets.kernels.geometry import (
    bytes_buffer,
    dense,
    dense_operand,
    operand_of_dense,
    stored_zero,
)
from mpqdeploy.targets.kernels.lookup_build import TABLE, pixels_per_vector
from mpqdeploy.targets.kernels.lookup_nest import LookupNest, LookupTile
from mpqdeploy.targets.kernels.register_tiles import divisors
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Conv, Grid, Step, Tensor

MAX_ACT_BITS = 4
MIN_CHANNELS = 5  # up to 4 are stored in 4 bytes, and one shuffle reads 16


class LookupKernel:
    """AVX-512 and AVX2: a byte shuffle looks up 16 output channels of 4 or 2 pixels."""

    name = "lookup"
    version = 5

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if isa not in (Isa.VNNI, Isa.AVX2) or found is None:
            return False
        conv, _, grid = found
        geometry = dense(step, tensors)
        # vpdpbusd multiplies as many bytes per instruction as two planes look up.
        most = 1 if isa == Isa.VNNI else 2
        narrow = conv.weight_grid.bits <= most and grid.bits <= MAX_ACT_BITS
        wide_enough = geometry.out_width >= pixels_per_vector(isa)
        channels = min(geometry.in_channels, geometry.out_channels) >= MIN_CHANNELS
        return narrow and wide_enough and channels and _fits_16_bits(conv, grid)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        geometry = dense(step, tensors)
        vectors = -(-geometry.out_width // pixels_per_vector(isa))
        blocks = -(-geometry.out_channels // TABLE)
        conv = step.anchor
        planes = conv.weight_grid.bits if isinstance(conv, Conv) else 1
        most = (8 if isa == Isa.VNNI else 4) // planes
        found: list[Schedule] = []
        for wide in reversed(divisors(blocks, min(4, most))):
            tiles = -(-vectors // min(most // wide, vectors))
            found.append({"vectors": -(-vectors // tiles), "blocks": wide})
        return found[:4]

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
        tile = LookupTile(schedule["vectors"], schedule["blocks"])
        largest = largest_looked_up(grid, conv.weight_grid)
        nest = LookupNest(geometry, isa, tile, conv.weights, conv.weight_grid, largest)
        source = bytes_buffer(conv.input, layouts, geometry.padding)
        start = start_of_lookups(conv, tensor, grid, TABLE)
        epilogue = Epilogue(step, tensors, layouts, lanes=isa.lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            nest.weights.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            origin = geometry.origin(source.layout)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                nest.emit(buffer, origin, start_buffer, epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*nest.weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
        )


def largest_looked_up(grid: Grid, weights: Grid) -> int:
    """Bound of a stored activation; a bipolar one is 0 or 2, and 1 in the border.

    Bipolar weights need a bound of the form 2^k - 1, so that m - s is an exclusive or.
    """
    if grid.bipolar:
        return 3 if weights.bipolar else 2
    return (1 << grid.bits) - 1


def start_of_lookups(conv: Conv, tensor: Tensor, grid: Grid, lanes: int) -> NDArray[np.int32]:
    """What is added to the sums of lookups, per output channel, padded to whole vectors."""
    start = start_values(conv.weights, stored_zero(tensor, grid), lanes)
    if conv.weight_grid.bipolar:  # every weight of -1 has added m - s instead of -s
        negative = (conv.weights < 0).reshape(len(conv.weights), -1).sum(axis=1)
        largest = largest_looked_up(grid, conv.weight_grid)
        start[: len(negative)] -= (largest * negative).astype(np.int32)
    return start


def _fits_16_bits(conv: Conv, grid: Grid) -> bool:
    """Whether no sum of a plane, times its factor, leaves the 16-bit accumulators."""
    inputs = int(np.prod(conv.weights.shape[1:]))
    bound = inputs * largest_looked_up(grid, conv.weight_grid)
    if conv.weight_grid.bipolar or (conv.weight_grid.bits == 1 and not conv.weight_grid.signed):
        return bound <= 65535
    return bound * (1 << conv.weight_grid.bits) <= 32767


LOOKUP = LookupKernel()
