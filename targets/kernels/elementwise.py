"""Steps without an anchor: input quantization, requantization, sums of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.shares import Share, sharing
from mpqdeploy.targets.kernels.storable import lanes_for, storable
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Step


class Elementwise:
    """Vectors over channels; over the pixels of a row for images of up to 4 channels."""

    name = "elementwise"
    version = 2

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return step.anchor is None and storable(step, tensors)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return ({},)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return None

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue

        channels = tensors[step.outputs[0].tensor].shape[3]
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes_for(channels, isa), isa=isa)
        image = channels <= 4 and {b.layout.kind for b in epilogue.writes} <= {"bytes", "tight"}
        with IRBuilder() as ib, T.prim_func():
            T.func_name("elementwise")
            epilogue.declare_reads()
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                if image:
                    _rows(epilogue, isa.lanes, share)
                else:
                    _pixels(epilogue, share)
        return Emitted(
            func=ib.get(),
            reads=epilogue.reads,
            constants=epilogue.constants,
            writes=epilogue.writes,
        )


def _rows(epilogue: Any, lanes: int, share: Share) -> None:
    """All channels of `lanes` pixels at a time, then the rest of the row pixel by pixel."""
    from tvm.script.ir_builder import tirx as T

    batch, height, width, _ = epilogue.shape
    whole = width // lanes
    with T.serial(0, batch) as n, share.loop(height) as y:
        if whole:
            with T.serial(0, whole) as x:
                epilogue.store_row(n, y, x * lanes, lanes)
        if width % lanes:
            with T.serial(whole * lanes, width) as x:
                epilogue.store_row(n, y, x, 1)


def _pixels(epilogue: Any, share: Share) -> None:
    from tvm.script.ir_builder import tirx as T

    batch, height, width, channels = epilogue.shape
    lanes = epilogue.lanes
    with (
        T.serial(0, batch) as n,
        share.loop(height) as y,
        T.serial(0, width) as x,
        T.serial(0, stored_channels(channels) // lanes) as block,
    ):
        epilogue.store(None, n, y, x, block * lanes)
