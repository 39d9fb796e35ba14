"""The loops of a bit-sliced convolution.

images > slices of output pixels (tables of the bands that are read for the first time)
    > tiles of 32 output channels > counts and their comparison, a channel after the other
    > pixels: the tile's bits, transposed, to memory
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.popcount.adders import Registers, adder_for
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.sliced.counts import Counts
from mpqdeploy.targets.kernels.sliced.plan import Plan
from mpqdeploy.targets.kernels.sliced.tables import Masks, Tables
from mpqdeploy.targets.kernels.sliced.transpose import transpose
from mpqdeploy.targets.kernels.sliced.words import WordWriter
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.layout import WORD

_SCRATCH = 6  # registers beside three values a digit


class SlicedNest:
    """Emits the loops; its owner declares the buffers. Made inside the function."""

    def __init__(self, plan: Plan, isa: Isa, weights: Any, masks: Masks | None) -> None:
        """`weights`: `Plan.variants`; `masks` where the plan is masked."""
        from tvm.script.ir_builder import tirx as T

        self._plan = plan
        registers = Registers(3 * (plan.digits + 2) + _SCRATCH, plan.lanes)
        self._adder = adder_for(isa, registers)
        self._bits = T.alloc_buffer((WORD, plan.lanes), "uint32", scope="global")
        self._tables = Tables(plan, self._adder, masks)
        self._counts = Counts(plan, registers, self._adder, self._tables, masks)
        self._tables.clear()
        self._counts.unpack(weights)

    def emit(
        self,
        source: Any,
        origin: tuple[int, int],
        limits: Any,
        writers: tuple[WordWriter, ...],
        share: Share,
    ) -> None:
        """`source`: the bits buffer; `origin`: see `Dense.origin`; `limits`: `thresholds`."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        with T.serial(0, plan.geometry.batch) as n:
            self._tables.take(source, origin, n)
            with share.loop(plan.vectors) as vector:
                self._fill(vector, share.first(plan.vectors))
                for span in cut(plan.geometry.out_channels, WORD):
                    with T.serial(0, span.count) as i:
                        tile = span.start // WORD + i
                        self._tile(vector, limits, tile, span.step)
                        self._write(n, vector, writers, tile, span.step)

    def _fill(self, vector: Any, first: Any) -> None:
        """Tables of the bands that this vector is the first to read."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        count = T.if_then_else(vector == first, plan.span, plan.fresh)
        with T.serial(0, count) as k:
            self._tables.fill(vector * plan.geometry.stride[0] + (plan.span - count) + k)

    def _tile(self, vector: Any, limits: Any, tile: Any, channels: int) -> None:
        from tvm.script.ir_builder import tirx as T

        index = T.ramp(0, 1, self._plan.lanes)
        with T.serial(0, channels) as c:
            digits = self._counts.emit(vector, tile * WORD + c)
            reached = self._compared(limits, tile * WORD + c, digits)
            T.buffer_store(self._bits, reached, [c, index])
        transpose(self._bits, (), 0, self._plan.lanes)

    def _compared(self, limits: Any, channel: Any, digits: list[Any]) -> Any:
        """Whether a count reaches its channel's threshold: from the lowest digit on, a higher one
        decides where it differs."""
        from tvm.script.ir_builder import tirx as T

        lanes = self._plan.lanes
        reached: Any = T.broadcast(T.uint32(0xFFFFFFFF), lanes)
        for number, digit in enumerate(digits):
            limit = T.broadcast(limits[channel, number], lanes)
            reached = T.bind(self._adder.majority(digit, reached, limit))
        return T.bitwise_xor(reached, T.broadcast(limits[channel, len(digits)], lanes))

    def _write(
        self, n: Any, vector: Any, writers: tuple[WordWriter, ...], tile: Any, channels: int
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        plan, height = self._plan, self._plan.geometry.out_height
        words = T.decl_buffer((plan.slots,), "uint32", data=self._bits.data)
        with T.serial(0, T.floordiv(height - vector + plan.vectors - 1, plan.vectors)) as i:
            row = vector + i * plan.vectors
            for writer in writers:
                with T.serial(0, plan.geometry.out_width) as x:
                    writer.store(words[i * plan.pitch + x], n, row, x, tile, channels)
