"""`DotKernel`: dense convolutions of byte activations, by 8-bit dot products.

Any weight width: narrow weights take less memory and are restored to bytes, once per tile of output
channels; the arithmetic is that of 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_avx2 import Avx2
from mpqdeploy.targets.kernels.dot_inner import DotInner, Micro, order_weights, start_values
from mpqdeploy.targets.kernels.dot_portable import Portable
from mpqdeploy.targets.kernels.dot_vnni import Vnni
from mpqdeploy.targets.kernels.geometry import cannot_overflow, dense, dense_operand, stored_zero
from mpqdeploy.targets.kernels.nest import RegisterNest, Tile, tiles_for
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.layout import Layout, Layouts, storage_offset
from mpqdeploy.targets.program import Step

MICROS: tuple[Micro, ...] = (Vnni(), Avx2(), Portable())


class DotKernel:
    """One dense convolution step on the instruction-set level of its `Micro`."""

    version = 1

    def __init__(self, micro: Micro) -> None:
        self.micro = micro
        self.name = micro.name

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if isa != self.micro.isa or found is None:
            return False
        conv, _, grid = found
        largest = grid.high - storage_offset(grid)
        fits = conv.weight_grid.low >= -128 and conv.weight_grid.high <= 127
        return fits and cannot_overflow(conv.weights, largest)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        tiles = tiles_for(dense(step, tensors), isa.lanes, self.micro.registers)
        return [{"rows": t.rows, "columns": t.columns, "vectors": t.vectors} for t in tiles]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bytes", padding=dense(step, tensors).padding)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        found = dense_operand(step, tensors)
        if found is None:
            raise ValueError(f"{step.name} is no dense integer convolution")
        conv, tensor, grid = found
        geometry = dense(step, tensors)
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        source = bytes_buffer(conv.input, layouts, geometry.padding)
        start = start_values(conv.weights, stored_zero(tensor, grid), isa.lanes)
        weights = Weights(order_weights(conv.weights, tile.vectors, self.micro), conv.weight_grid)
        inner = DotInner(geometry, self.micro, weights, tile.vectors)
        nest = RegisterNest(geometry, isa, tile, inner)
        epilogue = Epilogue(step, tensors, layouts, lanes=isa.lanes, isa=isa)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            epilogue.fill_borders()
            inner.bind(buffer, start_buffer)
            nest.emit(geometry.origin(source.layout), epilogue.store)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, start, *epilogue.constants),
            writes=epilogue.writes,
            scratch_bytes=weights.scratch_bytes,
        )


def bytes_buffer(tensor: str, layouts: Layouts, padding: tuple[int, int, int, int]) -> Buffer:
    """The tensor's bytes layout with at least this padding."""
    for layout in layouts[tensor]:
        enough = all(a >= b for a, b in zip(layout.padding, padding, strict=True))
        if layout.kind == "bytes" and enough:
            return Buffer(tensor=tensor, layout=layout)
    raise ValueError(f"{tensor} has no bytes layout with padding {padding}")


DOT_KERNELS = tuple(DotKernel(micro) for micro in MICROS)
