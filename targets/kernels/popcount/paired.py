"""`PairedKernel`: +-1 weights and 1- or 2-bit activations, 1,024 products in five operations.

For CPUs that count the bits of vectors (AVX512-VPOPCNTDQ): where one takes seven operations, adding
carries to carries takes fewer (`carry_save`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.following import Following
from mpqdeploy.targets.kernels.geometry import dense, operand_of_dense, padded_buffer
from mpqdeploy.targets.kernels.popcount.counted import Counted, countable
from mpqdeploy.targets.kernels.popcount.pair_nest import PairNest
from mpqdeploy.targets.kernels.popcount.pairs import Pairs
from mpqdeploy.targets.kernels.register_tiles import Tile, tiles_for
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import WORD, Layout, Layouts, planes
from mpqdeploy.targets.program import Step

# Digits and carries so far; operands and weights need the other registers.
REGISTERS = {Isa.VNNI: 22, Isa.AVX2: 8, Isa.PORTABLE: 8}
LEAST_ODD = 7  # words of an odd number: with fewer, half a pair costs more than pairs save


class PairedKernel:
    """Population counts of carries, on every instruction-set level."""

    name = "paired"
    version = 3

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = countable(step, tensors)
        if found is None or not found[0].weight_grid.bipolar:
            return False
        words = -(-dense(step, tensors).in_channels // WORD)
        return words % 2 == 0 or words >= LEAST_ODD

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        _, _, grid = operand_of_dense(step, tensors)
        each = 2 * planes(grid)
        tiles = tiles_for(dense(step, tensors), isa.lanes, REGISTERS[isa] // each)
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
        geometry, start = counted.geometry, counted.start
        source = padded_buffer("bits", counted.conv.input, layouts, geometry.padding)
        pairs = Pairs(words=counted.words.shape[2], planes=counted.planes)
        words = pairs.pack(counted.words)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        nest = PairNest(geometry, isa, tile, pairs)
        border = counted.border()
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights = T.arg("weights", T.buffer(words.shape, "uint32"))
            table = nest.declare(buffer, weights)
            starts = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            origin = geometry.origin(source.layout)
            index = T.ramp(0, 1, lanes)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                border.prepare(
                    lambda vector, tap, word, _: pairs.unpaired(weights, vector, tap, word, index)
                )
                store = border.correcting(counted.finishing(starts, epilogue.store))
                nest.emit(origin, store, epilogue, share, Following.of(schedule, starts))
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(words, *table, start, *epilogue.constants),
            writes=epilogue.writes,
        )


PAIRED = PairedKernel()
