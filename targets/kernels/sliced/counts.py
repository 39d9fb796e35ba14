"""Counting in slices: an output channel's differences from its weights, for all pixels of a slice.

What the tables give is added digit by digit (`popcount.counter`): three products cost one and a
third additions of three bits, and no final count, since every slot has a count of its own.
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.kernels.popcount.adders import PlainAdder, Registers
from mpqdeploy.targets.kernels.popcount.counter import Counter
from mpqdeploy.targets.kernels.sliced.plan import TOGETHER, Plan
from mpqdeploy.targets.kernels.sliced.tables import Masks, Tables

_BYTES = 64  # groups whose weights lie together


class Counts:
    """Emits the counts, which start from 0 where nothing is masked."""

    def __init__(
        self,
        plan: Plan,
        registers: Registers,
        adder: PlainAdder,
        tables: Tables,
        masks: Masks | None,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        self._plan, self._registers, self._adder = plan, registers, adder
        self._tables, self._masks = tables, masks
        self._digits = [
            T.alloc_buffer((plan.lanes,), "uint32", scope="global") for _ in range(plan.digits)
        ]
        self._variants: Any = None

    def unpack(self, weights: Any) -> None:
        """The packed signs of all groups as offsets in their tables, a byte each."""
        from tvm.script.ir_builder import tirx as T

        words = int(weights.shape[0])
        self._variants = T.alloc_buffer((words * _BYTES,), "uint8", scope="global")
        # Byte i of a vector holds byte i % 8 of the word, whose bit i // 8 is its group's.
        groups = T.shift_left(
            T.broadcast(T.uint8(1), _BYTES), T.cast(T.ramp(0, 1, _BYTES) // 8, f"uint8x{_BYTES}")
        )
        zero = T.broadcast(T.uint8(0), _BYTES)
        with T.serial(0, words) as word:
            total: Any = zero
            for bit in range(TOGETHER):
                spread = T.broadcast(weights[word, bit], _BYTES // 8)
                given = T.bitwise_and(T.reinterpret(f"uint8x{_BYTES}", spread), groups) != zero
                worth = T.broadcast(T.uint8((2 * self._plan.lanes) << bit), _BYTES)
                total = total + T.Select(given, worth, zero)
            T.buffer_store(self._variants, total, [T.ramp(word * _BYTES, 1, _BYTES)])

    def emit(self, vector: Any, channel: Any) -> list[Any]:
        """Digits, lowest first, of output channel `channel` for slice `vector`; valid until the
        next call."""
        from tvm.script.ir_builder import tirx as T

        plan, index = self._plan, T.ramp(0, 1, self._plan.lanes)
        for number, digit in enumerate(self._digits):
            first = T.broadcast(T.uint32(0), plan.lanes)
            if self._masks is not None:
                first = self._masks.start[vector, number, index]
            T.buffer_store(digit, first, [index])
        with T.serial(0, plan.blocks) as block:
            self._block(vector, channel, block)
        return [digit[index] for digit in self._digits]

    def _block(self, vector: Any, channel: Any, block: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        plan, index = self._plan, T.ramp(0, 1, self._plan.lanes)
        hold, geometry = self._registers.hold, plan.geometry
        counter: Counter[Any] = Counter(self._adder)
        for level, digit in enumerate(self._digits):
            counter.add(level, hold(digit[index]))
        at_once = geometry.kernel[0] * plan.block
        first = (channel * plan.blocks + block) * at_once
        for number in range(at_once):
            tap, group = divmod(number, plan.block)
            band = vector * geometry.stride[0] + tap * geometry.dilation[0]
            variant = T.bind(T.cast(self._variants[first + number], "int32"))
            for plane in range(plan.planes):
                found = self._tables.lookup(band, plane, block * plan.block + group, variant)
                total, carry = map(hold, found)
                counter.add(plane, total)
                counter.add(plane + 1, carry)
        for level, value in counter.digits().items():
            if level < plan.digits:  # no count reaches further
                T.buffer_store(self._digits[level], self._registers.read(value), [index])
            self._registers.release(value)
