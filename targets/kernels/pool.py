"""Pooling over codes: maximum, and sum of (code - zero point)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import INT32_MAX, zero_is_storable
from mpqdeploy.targets.kernels.pool_maxima import emit_maxima, separable
from mpqdeploy.targets.kernels.pool_window import Window
from mpqdeploy.targets.kernels.shares import Share, sharing
from mpqdeploy.targets.kernels.storable import fits_bytes, lanes_for, storable
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Pool, Step

if TYPE_CHECKING:
    from mpqdeploy.targets.kernels.epilogue import Epilogue


class Pooling:
    """Any window, stride and padding; vectors over channels."""

    name = "pool"
    version = 5

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        if not isinstance(step.anchor, Pool):
            return False
        source = tensors[step.anchor.input]
        if source.grid is None or not fits_bytes(source) or not storable(step, tensors):
            return False
        taps = step.anchor.kernel[0] * step.anchor.kernel[1]
        if step.anchor.kind == "max":
            return True
        return zero_is_storable(source, source.grid) and 2 * 255 * taps <= INT32_MAX

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return ({},)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        """A maximum repeats the pixels at the edge instead of reading a border."""
        pool = _pool(step)
        if pool.kind == "max":
            return Layout(kind="bytes")
        return Layout(kind="bytes", padding=_reach(pool, step, tensors))

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare
        from mpqdeploy.targets.kernels.epilogue.following import all_follow

        pool = _pool(step)
        source = Buffer(
            tensor=pool.input,
            layout=next(layout for layout in layouts[pool.input] if layout.kind == "bytes"),
        )
        lanes = lanes_for(tensors[step.outputs[0].tensor].shape[3], isa)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name("pool")
            arg = declare("source", source, tensors)
            epilogue.declare_reads()
            epilogue.declare_constants()
            epilogue.declare_writes()
            window = Window(
                pool=pool,
                tensor=tensors[pool.input],
                layout=source.layout,
                arg=arg,
                clamped=any(_reach(pool, step, tensors)),
            )
            how = None
            if separable(pool):
                how = all_follow(step, tensors, layouts, window.grid, isa)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                if how is None:
                    _by_windows(window, epilogue, share)
                else:
                    emit_maxima(window, epilogue, how, share)
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=epilogue.constants,
            writes=epilogue.writes,
        )


def _by_windows(window: Window, epilogue: Epilogue, share: Share) -> None:
    """All taps of one pixel after the other, by vectors of channels."""
    from tvm.script.ir_builder import tirx as T

    pool, lanes = window.pool, epilogue.lanes
    batch, height, width, channels = epilogue.shape
    vectors = _at_once(pool, stored_channels(channels) // lanes, epilogue.at_once)
    kind = "uint8" if pool.kind == "max" else "int32"
    acc = T.alloc_buffer((vectors * lanes,), kind)
    with (
        T.serial(0, batch) as n,
        share.loop(height) as y,
        T.serial(0, width) as x,
        T.serial(0, stored_channels(channels) // (vectors * lanes)) as block,
        epilogue.together(),
    ):
        first = block * vectors * lanes
        value = window.reduce(acc, n, y, x, first)
        for part in range(vectors):
            values = _part(value, part, lanes) if vectors > 1 else value
            epilogue.store(values, n, y, x, first + part * lanes)


def _at_once(pool: Pool, vectors: int, most: int) -> int:
    """Vectors of channels whose maxima are taken together, as bytes; sums are no bytes."""
    return most if pool.kind == "max" and vectors % most == 0 else 1


def _part(vector: Any, part: int, lanes: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.Shuffle([vector], list(range(part * lanes, (part + 1) * lanes)))


def _reach(pool: Pool, step: Step, tensors: Tensors) -> tuple[int, int, int, int]:
    """The least padding that covers every tap of every output."""
    _, height, width, _ = tensors[pool.input].shape
    _, rows, columns, _ = tensors[step.outputs[0].tensor].shape
    top, left, _, _ = pool.padding
    bottom = (rows - 1) * pool.stride[0] + pool.kernel[0] - top - height
    right = (columns - 1) * pool.stride[1] + pool.kernel[1] - left - width
    return top, left, max(bottom, 0), max(right, 0)


def _pool(step: Step) -> Pool:
    if not isinstance(step.anchor, Pool):
        raise ValueError(f"{step.name} is no pooling")
    return step.anchor
