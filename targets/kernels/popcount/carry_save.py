"""`CarrySaveKernel`: +-1 weights and 1- or 2-bit activations where no instruction counts bits.

On AVX-512 without VPOPCNTDQ 512 products take some 3 operations at 256 input channels, where a dot
product takes 8. Few words per output do not repay the count at the end of every accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import dense, operand_of_dense, padded_buffer
from mpqdeploy.targets.kernels.popcount.carry_nest import (
    UNROLLED,
    CarryNest,
    pair_words,
    unpaired,
    words_of,
)
from mpqdeploy.targets.kernels.popcount.counted import Counted, countable
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import WORD, Layout, Layouts, planes
from mpqdeploy.targets.program import Step

COLUMNS = (4, 3, 2, 1)  # pixels at once, whose counters and weights fit the registers


class CarrySaveKernel:
    """Population counts by carry-save addition, on every instruction-set level."""

    name = "carry_save"
    version = 4

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = countable(step, tensors)
        if found is None or not found[0].weight_grid.bipolar:
            return False
        return dense(step, tensors).in_channels > WORD // 2  # below, half of every word is empty

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        """Wide tiles share more loads; those first that are unrolled whole."""
        geometry, (_, _, grid) = dense(step, tensors), operand_of_dense(step, tensors)
        words = words_of(geometry) * planes(grid)
        fitting = [c for c in COLUMNS if c <= geometry.out_width]
        whole = [c for c in fitting if c * words <= UNROLLED]
        looped = [c for c in reversed(fitting) if c not in whole]
        return [{"columns": columns} for columns in whole + looped]

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
        words = pair_words(counted.words)
        border = counted.border()
        nest = CarryNest(geometry, isa, schedule["columns"], counted.planes)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights = T.arg("weights", T.buffer(words.shape, "uint32"))
            starts = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                border.prepare(
                    lambda vector, tap, word, _: unpaired(weights, vector, tap, word, lanes)
                )
                store = border.correcting(counted.finishing(starts, epilogue.store))
                nest.emit(buffer, weights, geometry.origin(source.layout), store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(words, start, *epilogue.constants),
            writes=epilogue.writes,
        )


CARRY_SAVE = CarrySaveKernel()
