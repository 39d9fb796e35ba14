"""The instructions of the permute kernel, and what stands in for them on other CPUs.

One lookup takes `lanes` output channels by 4 groups of 4 input channels. A byte for each says which
group, and which of its 16 sets of activations to add. Where registers have 64 bytes, vpermb looks
all of them up in the 64 sums of a pixel, and vpdpbusd adds up the four groups of every channel.
"""

from __future__ import annotations

from typing import Any, Protocol

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_vnni import vpdpbusd

GROUP = 4  # input channels of one table
SETS = 1 << GROUP  # entries of one table
CHUNK = 16  # input channels, GROUPS tables, of one lookup
GROUPS = CHUNK // GROUP
TABLES = SETS * GROUPS  # bytes of a pixel's tables of one chunk


class Micro(Protocol):
    """One way to look up and to add; `lanes` output channels at once."""

    name: str
    isa: Isa
    registers: int  # that hold accumulators, indices and factors
    accumulators: int  # at most

    def spread(self, pixel: Any, first: Any, i: int) -> Any:
        """`TABLES` bytes: in all entries of table g the activation `first + 4 g + i` of a pixel.

        `pixel(index)` reads its stored bytes at a vector of channels."""

    def look_up(self, tables: Any, indices: Any) -> Any:
        """4 x lanes bytes `tables(index)` of a pixel, at as many indices below `TABLES`."""

    def add(self, acc: Any, found: Any, factor: int) -> Any:
        """acc (int32 x lanes) + factor * (the sum of every four bytes of `found`)."""


class Vpermb:
    """AVX-512 VBMI and VNNI."""

    name = "permute"
    isa = Isa.VNNI
    registers = 28  # of 32: the others hold what was looked up
    accumulators = 14

    def spread(self, pixel: Any, first: Any, i: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        stored = pixel(T.ramp(first, 1, CHUNK))
        every = T.Shuffle([stored] * GROUPS, list(range(CHUNK)) * GROUPS)
        wanted = table_numbers() * splat(GROUP) + splat(i)
        return T.call_llvm_pure_intrin(
            f"uint8x{TABLES}", "llvm.x86.avx512.pshuf.b.512", every, wanted
        )

    def look_up(self, tables: Any, indices: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        table = tables(T.ramp(0, 1, TABLES))
        return T.call_llvm_pure_intrin(
            f"uint8x{TABLES}", "llvm.x86.avx512.permvar.qi.512", table, indices
        )

    def add(self, acc: Any, found: Any, factor: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        return vpdpbusd(acc, found, T.broadcast(T.int8(factor), TABLES))


class Gather:
    """Any CPU, by loads one by one: the same loops, tables and indices, to be tested everywhere.

    Never fast, and so never offered by the registry.
    """

    name = "permute_gather"
    registers = 28
    accumulators = 2

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def spread(self, pixel: Any, first: Any, i: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        group = T.cast(table_numbers(), f"int32x{TABLES}")
        channel = T.broadcast(first + i, TABLES) + group * T.broadcast(GROUP, TABLES)
        return pixel(channel)

    def look_up(self, tables: Any, indices: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return tables(T.cast(indices, f"int32x{GROUPS * self.isa.lanes}"))

    def add(self, acc: Any, found: Any, factor: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        lanes = self.isa.lanes
        words = T.reinterpret(f"uint32x{lanes}", found)
        total = None
        for group in range(GROUPS):
            byte = T.shift_right(words, T.broadcast(T.uint32(8 * group), lanes))
            byte = T.bitwise_and(byte, T.broadcast(T.uint32(0xFF), lanes))
            total = byte if total is None else total + byte
        return acc + T.cast(total, f"int32x{lanes}") * T.broadcast(T.int32(factor), lanes)


def splat(value: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.broadcast(T.uint8(value), TABLES)


def set_numbers() -> Any:
    """0..15 in every table: which of its four activations an entry adds."""
    from tvm.script.ir_builder import tirx as T

    return T.bitwise_and(T.cast(T.ramp(0, 1, TABLES), f"uint8x{TABLES}"), splat(SETS - 1))


def table_numbers() -> Any:
    """The number of the table that a byte belongs to."""
    from tvm.script.ir_builder import tirx as T

    return T.shift_right(T.cast(T.ramp(0, 1, TABLES), f"uint8x{TABLES}"), splat(GROUP))
