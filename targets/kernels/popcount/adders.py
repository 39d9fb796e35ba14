"""Carry-save adders and the final count on each instruction-set level.

Values lie in `Registers`: variables would be as good for LLVM, but TVM's simplifier looks through
every one of them again and takes seconds for some hundred.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_vnni import vpdpbusd

_MOST_WORTH = 128  # that one unsigned byte of vpdpbusd can hold


class Registers:
    """Vectors of uint32: a small buffer each, which LLVM keeps in a register."""

    def __init__(self, count: int, lanes: int) -> None:
        """Call before the loops: a buffer made inside one would be memory."""
        from tvm.script.ir_builder import tirx as T

        self.lanes = lanes
        self._free = [T.alloc_buffer((lanes,), "uint32", scope="global") for _ in range(count)]

    def hold(self, value: Any) -> Any:
        """`value` in a register of its own, until it is released."""
        from tvm.script.ir_builder import tirx as T

        register = self._free.pop()
        T.buffer_store(register, value, [T.ramp(0, 1, self.lanes)])
        return register

    def read(self, register: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return register[T.ramp(0, 1, self.lanes)]

    def release(self, *registers: Any) -> None:
        self._free.extend(registers)


class PlainAdder:
    """Two-operand logic: any vector unit. Operands are released, but for weights (`both`)."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self._lanes = registers.lanes

    def full(self, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        differ = hold(T.bitwise_xor(read(a), read(b)))
        total = hold(T.bitwise_xor(read(differ), read(c)))
        agreed, odd = T.bitwise_and(read(a), read(b)), T.bitwise_and(read(c), read(differ))
        carry = hold(T.bitwise_or(agreed, odd))
        self._registers.release(a, b, c, differ)
        return total, carry

    def half(self, a: Any, b: Any) -> tuple[Any, Any]:
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        total = hold(T.bitwise_xor(read(a), read(b)))
        carry = hold(T.bitwise_and(read(a), read(b)))
        self._registers.release(a, b)
        return total, carry

    def pair(self, c: Any, first: Any, both: tuple[Any, Any]) -> tuple[Any, Any]:
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        differ = hold(T.bitwise_xor(*both))
        total = hold(T.bitwise_xor(read(c), read(differ)))
        chosen = T.bitwise_and(read(differ), T.bitwise_xor(read(c), read(first)))
        carry = hold(T.bitwise_xor(read(first), chosen))
        self._registers.release(c, first, differ)
        return total, carry

    def start(self, first: Any, both: tuple[Any, Any]) -> tuple[Any, Any]:
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        total = hold(T.bitwise_xor(*both))
        carry = hold(T.bitwise_and(read(first), T.bitwise_not(read(total))))
        self._registers.release(first)
        return total, carry

    def majority(self, a: Any, b: Any, c: Any) -> Any:
        """Of three expressions, an expression."""
        from tvm.script.ir_builder import tirx as T

        return T.bitwise_or(T.bitwise_and(a, b), T.bitwise_and(c, T.bitwise_or(a, b)))

    def count(self, digits: Mapping[int, Any]) -> Any:
        """Sum of 2^level * set bits, per lane, as int32."""
        from tvm.script.ir_builder import tirx as T

        total: Any = T.broadcast(T.int32(0), self._lanes)
        for level, digit in digits.items():
            bits = T.cast(T.popcount(self._registers.read(digit)), f"int32x{self._lanes}")
            total = total + T.shift_left(bits, T.broadcast(T.int32(level), self._lanes))
        return total


class TernaryAdder(PlainAdder):
    """AVX-512: vpternlogd computes any function of three bits, given as its truth table."""

    _SUM, _MAJORITY = 0x96, 0xE8
    # Of (c, x, sum), where sum = a ^ c ^ x or, in a pair, x is x_0: sum != c ? c : x. From the sum
    # rather than from a, so that a's register can take it: no copy.
    _CARRY_OF_SUM = 0xD4

    def full(self, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
        read = self._registers.read
        total = self._logic(read(a), read(b), read(c), self._SUM)
        carry = self._logic(read(b), read(c), read(total), self._CARRY_OF_SUM)
        self._registers.release(a, b, c)
        return total, carry

    def pair(self, c: Any, first: Any, both: tuple[Any, Any]) -> tuple[Any, Any]:
        read = self._registers.read
        total = self._logic(read(c), *both, self._SUM)
        carry = self._logic(read(c), read(first), read(total), self._CARRY_OF_SUM)
        self._registers.release(c, first)
        return total, carry

    def count(self, digits: Mapping[int, Any]) -> Any:
        """Bits per byte by table lookup, then vpdpbusd adds 4 bytes times their worth."""
        from tvm.script.ir_builder import tirx as T

        total: Any = T.broadcast(T.int32(0), self._lanes)
        for level, digit in digits.items():
            counts = T.popcount(T.reinterpret("uint8x64", self._registers.read(digit)))
            worth = T.broadcast(T.uint8(min(1 << level, _MOST_WORTH)), 64)
            for _ in range(max((1 << level) // _MOST_WORTH, 1)):
                total = vpdpbusd(total, worth, counts)
        return total

    def majority(self, a: Any, b: Any, c: Any) -> Any:
        return self._ternary(a, b, c, self._MAJORITY)

    def _logic(self, a: Any, b: Any, c: Any, table: int) -> Any:
        return self._registers.hold(self._ternary(a, b, c, table))

    def _ternary(self, a: Any, b: Any, c: Any, table: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        name = f"llvm.x86.avx512.pternlog.d.{32 * self._lanes}"
        kind = f"uint32x{self._lanes}"
        return T.call_llvm_pure_intrin(kind, name, a, b, c, T.uint32(table))


def adder_for(isa: Isa, registers: Registers) -> PlainAdder:
    return TernaryAdder(registers) if isa is Isa.VNNI else PlainAdder(registers)
