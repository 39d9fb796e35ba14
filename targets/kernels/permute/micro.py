"""The instructions of the permute kernel, and what stands in for them on other CPUs.

One lookup takes `lanes` output channels by 4 groups of input channels. A byte for each says which
group, and which of its 16 sets of activations to add. Where registers have 64 bytes, vpermb looks
all of them up in the 64 sums of a pixel, and vpdpbusd adds up the four groups of every channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_vnni import vpdpbusd

INDEX = 4  # bits of the number of a set
SETS = 1 << INDEX  # entries of one table
GROUPS = 4  # groups of input channels, a table each, of one lookup
TABLES = SETS * GROUPS  # bytes of these tables
NUMBERS = np.arange(TABLES)


@dataclass(frozen=True, eq=False)
class Bytes:
    """Bytes of a buffer that follow each other: its last index, and what stands before that."""

    buffer: Any
    place: tuple[Any, ...]
    first: Any

    def run(self, count: int) -> Any:
        """The first `count`."""
        from tvm.script.ir_builder import tirx as T

        return self.buffer[(*self.place, T.ramp(self.first, 1, count))]

    def behind(self, count: Any) -> Bytes:
        """Those `count` further on."""
        return replace(self, first=self.first + count)

    def at(self, places: Any, count: int) -> Any:
        """Those at `count` places (bytes), one by one."""
        from tvm.script.ir_builder import tirx as T

        numbers, found = (T.alloc_buffer((count,), "uint8", scope="global") for _ in range(2))
        T.buffer_store(numbers, places, [T.ramp(0, 1, count)])
        with T.serial(0, count) as i:
            value = self.buffer[(*self.place, self.first + T.cast(numbers[i], "int32"))]
            T.buffer_store(found, value, [i])
        return T.bind(found[T.ramp(0, 1, count)])


class Micro(Protocol):
    """One way to look up and to add; `lanes` output channels at once."""

    name: str
    isa: Isa
    registers: int  # that hold accumulators, indices and factors
    accumulators: int  # at most

    def pick(self, values: Any, places: Any) -> Any:
        """Those at `places`, a vector of bytes, of `TABLES` bytes. A place beyond them gives any of
        them."""

    def look_up(self, tables: Bytes, indices: Any) -> Any:
        """4 x lanes of the bytes of `tables`. Of an index, the six lowest bits count."""

    def add(self, acc: Any, found: Any, factors: Any) -> Any:
        """acc (int32 x lanes) + the sums of every four bytes of `found`, times int8 `factors`."""


class Vpermb:
    """AVX-512 VBMI and VNNI."""

    name = "permute"
    isa = Isa.VNNI
    registers = 28  # of 32: the others hold what was looked up
    accumulators = 14

    def pick(self, values: Any, places: Any) -> Any:
        return _vpermb(values, _as_it_is(places))

    def look_up(self, tables: Bytes, indices: Any) -> Any:
        return _vpermb(tables.run(TABLES), indices)

    def add(self, acc: Any, found: Any, factors: Any) -> Any:
        return vpdpbusd(acc, found, factors)


def _as_it_is(vector: Any) -> Any:
    """`vector`, of which LLVM is told nothing: of a constant one it makes shuffles, and of shuffles
    of shuffles, for minutes, what takes more instructions than these permutes."""
    from tvm.script.ir_builder import tirx as T

    floats = T.reinterpret(f"float32x{TABLES // 4}", vector)
    name = f"llvm.arithmetic.fence.v{TABLES // 4}f32"
    hidden = T.call_llvm_pure_intrin(f"float32x{TABLES // 4}", name, floats)
    return T.reinterpret(f"uint8x{TABLES}", hidden)


def _vpermb(table: Any, indices: Any) -> Any:
    from tvm.script.ir_builder import tirx as T

    name = "llvm.x86.avx512.permvar.qi.512"
    return T.call_llvm_pure_intrin(f"uint8x{TABLES}", name, table, indices)


class Gather:
    """Any CPU, by loads one by one: the same loops, tables and indices, to be tested everywhere.

    Never fast, and so never offered by the registry.
    """

    name = "permute_gather"
    registers = 28
    accumulators = 2

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def pick(self, values: Any, places: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        held = T.alloc_buffer((TABLES,), "uint8", scope="global")
        T.buffer_store(held, values, [T.ramp(0, 1, TABLES)])
        return Bytes(held, (), 0).at(T.bitwise_and(places, splat(TABLES - 1)), TABLES)

    def look_up(self, tables: Bytes, indices: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        count = GROUPS * self.isa.lanes
        return tables.at(T.bitwise_and(indices, splat(TABLES - 1, count)), count)

    def add(self, acc: Any, found: Any, factors: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        lanes = self.isa.lanes
        for group in range(GROUPS):
            byte = T.shift_right(self._top(found, group), T.broadcast(T.uint32(24), lanes))
            top = T.reinterpret(f"int32x{lanes}", self._top(factors, group))
            factor = T.shift_right(top, T.broadcast(24, lanes))  # with its sign
            acc = acc + T.cast(byte, f"int32x{lanes}") * factor
        return acc

    def _top(self, vector: Any, group: int) -> Any:
        """Words with a group's bytes as their high bytes."""
        from tvm.script.ir_builder import tirx as T

        words = T.reinterpret(f"uint32x{self.isa.lanes}", vector)
        return T.shift_left(words, T.broadcast(T.uint32(24 - 8 * group), self.isa.lanes))


def splat(value: int, lanes: int = TABLES) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.broadcast(T.uint8(value), lanes)


def set_bit(bit: int) -> NDArray[np.int64]:
    """0 or 1 for every entry: that bit of its number."""
    return NUMBERS >> bit & 1


def constant(numbers: NDArray[np.int64]) -> Any:
    """A vector of `TABLES` bytes, the low 8 bits of these numbers."""
    from tvm.script.ir_builder import tirx as T

    return T.Shuffle([T.uint8(int(number) % 256) for number in numbers], list(range(TABLES)))


def less_unless_set(value: Any, bit: int, largest: int) -> Any:
    """m - value in the entries without that bit in their number. m = `largest`, which is 2^k - 1
    and bounds `value`: the difference is an exclusive or."""
    from tvm.script.ir_builder import tirx as T

    return T.bitwise_xor(value, constant((1 - set_bit(bit)) * largest))


def group_numbers(lanes: int) -> Any:
    """The number of the group that a byte of an index belongs to: 0, 1, 2, 3, and again."""
    from tvm.script.ir_builder import tirx as T

    return T.bitwise_and(_numbers(lanes), splat(GROUPS - 1, lanes))


def _numbers(lanes: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.cast(T.ramp(0, 1, lanes), f"uint8x{lanes}")
