"""`CarrySaveKernel`: +-1 weights and 1- or 2-bit activations where no instruction counts bits.

On AVX-512 without VPOPCNTDQ 512 products take some 3 operations at 256 input channels, where a dot
product takes 8. Few words per output do not repay the count at the end of every accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import dense, dense_operand, operand_of_dense, stored_zero
from mpqdeploy.targets.kernels.popcount.border import Border
from mpqdeploy.targets.kernels.popcount.carry_nest import (
    UNROLLED,
    CarryNest,
    pair_words,
    unpaired,
    words_of,
)
from mpqdeploy.targets.kernels.popcount.words import (
    Terms,
    bits_buffer,
    finishing,
    pack_words,
    start_constants,
)
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.layout import WORD, Layout, Layouts, planes
from mpqdeploy.targets.program import Step

MAX_ACT_BITS = 2
COLUMNS = (4, 3, 2, 1)  # pixels at once, whose counters and weights fit the registers


class CarrySaveKernel:
    """Population counts by carry-save addition, on every instruction-set level."""

    name = "carry_save"
    version = 1

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if found is None:
            return False
        conv, tensor, grid = found
        # Half of every word would be empty below.
        narrow = grid.bits <= MAX_ACT_BITS and dense(step, tensors).in_channels > WORD // 2
        bordered = not grid.bipolar or stored_zero(tensor, grid) == 1
        return conv.weight_grid.bipolar and narrow and bordered

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        """Wide tiles share more loads; those first that are unrolled whole."""
        geometry = dense(step, tensors)
        _, _, grid = operand_of_dense(step, tensors)
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

        conv, tensor, grid = operand_of_dense(step, tensors)
        geometry, lanes = dense(step, tensors), isa.lanes
        source = bits_buffer(conv.input, layouts, geometry.padding)
        packed = pack_words(conv.weights, conv.weight_grid, lanes)
        words = pair_words(packed)
        zero = 0 if grid.bipolar else stored_zero(tensor, grid)
        start = start_constants(conv.weights, conv.weight_grid, grid, zero, lanes)
        border = Border(geometry, tensor, conv.weight_grid, packed.shape)
        nest = CarryNest(geometry, isa, schedule["columns"], planes(grid))
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights = T.arg("weights", T.buffer(words.shape, "uint32"))
            starts = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            scale = Terms.of(grid, conv.weight_grid).scale
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                border.prepare(
                    lambda vector, tap, word, _: unpaired(weights, vector, tap, word, lanes)
                )
                store = border.correcting(finishing(starts, scale, lanes, epilogue.store))
                nest.emit(buffer, weights, geometry.origin(source.layout), store, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(words, start, *epilogue.constants),
            writes=epilogue.writes,
        )


CARRY_SAVE = CarrySaveKernel()
