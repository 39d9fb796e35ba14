"""`PopcountKernel`: dense convolutions of 1- and 2-bit codes in the bits layout.

Fast where a CPU counts the bits of vectors (AVX512-VPOPCNTDQ); exact everywhere, through whatever
LLVM makes of a vector population count.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.following import Following
from mpqdeploy.targets.kernels.geometry import dense, padded_buffer
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.popcount.counted import Counted, countable
from mpqdeploy.targets.kernels.popcount.inner import PopcountInner
from mpqdeploy.targets.kernels.register_tiles import Tile, tiles_for
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Step

REGISTERS = {Isa.VNNI: 16, Isa.AVX2: 6, Isa.PORTABLE: 6}  # operands and table lookups need the rest


class PopcountKernel:
    """Weights and activations of 1 or 2 bits, on every instruction-set level."""

    name = "popcount"
    version = 4

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = countable(step, tensors)
        return found is not None and found[0].weight_grid.bits <= 2

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

        counted, lanes = Counted.of(step, tensors, isa.lanes), isa.lanes
        geometry, words, start = counted.geometry, counted.words, counted.start
        source = padded_buffer("bits", counted.conv.input, layouts, geometry.padding)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        inner = PopcountInner(geometry, counted.terms, tile.vectors, lanes)
        border = counted.border()
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
                store = border.correcting(counted.finishing(starts, epilogue.store))
                nest = RegisterNest(geometry, isa, tile, inner)
                nest.emit(origin, store, epilogue, share, Following.of(schedule, starts))
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(words, start, *epilogue.constants),
            writes=epilogue.writes,
        )


POPCOUNT = PopcountKernel()
