"""`PopcountKernel`: dense convolutions of 1- and 2-bit codes in the bits layout.

Fast where a CPU counts the bits of vectors (AVX512-VPOPCNTDQ); exact everywhere, through whatever
LLVM makes of a vector population count.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import dense, dense_operand, operand_of_dense, stored_zero
from mpqdeploy.targets.kernels.nest import RegisterNest, Tile, tiles_for
from mpqdeploy.targets.kernels.popcount.border import Border
from mpqdeploy.targets.kernels.popcount.inner import PopcountInner
from mpqdeploy.targets.kernels.popcount.words import (
    Terms,
    bits_buffer,
    finishing,
    pack_words,
    start_constants,
)
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Step

REGISTERS = {Isa.VNNI: 16, Isa.AVX2: 6, Isa.PORTABLE: 6}  # operands and table lookups need the rest


class PopcountKernel:
    """Weights and activations of 1 or 2 bits, on every instruction-set level."""

    name = "popcount"
    version = 1

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if found is None:
            return False
        conv, tensor, grid = found
        narrow = grid.bits <= 2 and conv.weight_grid.bits <= 2
        # The border of a bipolar layout stands for -1 and is corrected; no other zero point is.
        return narrow and (not grid.bipolar or stored_zero(tensor, grid) == 1)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        tiles = tiles_for(dense(step, tensors), isa.lanes, REGISTERS[isa])
        return [{"rows": t.rows, "columns": t.columns, "vectors": t.vectors} for t in tiles]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bits", padding=dense(step, tensors).padding)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        geometry, lanes = dense(step, tensors), isa.lanes
        source = bits_buffer(conv.input, layouts, geometry.padding)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        terms = Terms.of(grid, conv.weight_grid)
        words = pack_words(conv.weights, conv.weight_grid, lanes)
        zero = 0 if grid.bipolar else stored_zero(tensor, grid)
        start = start_constants(conv.weights, conv.weight_grid, grid, zero, lanes)
        inner = PopcountInner(geometry, terms, tile.vectors, lanes)
        border = Border(geometry, tensor, conv.weight_grid, words.shape)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights = T.arg("weights", T.buffer(words.shape, str(words.dtype)))
            starts = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            inner.bind(buffer, weights)
            origin = geometry.origin(source.layout)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                border.prepare(inner.words)
                store = border.correcting(finishing(starts, terms.scale, lanes, epilogue.store))
                nest = RegisterNest(geometry, isa, tile, inner)
                nest.emit(origin, store, share, epilogue.unit)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(words, start, *epilogue.constants),
            writes=epilogue.writes,
        )


POPCOUNT = PopcountKernel()
