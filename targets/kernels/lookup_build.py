"""Two ways to build the tables of 16 channels of a vector of pixels.

For four stored activations s_0..s_3, a table holds one byte for each of the 16 sets j of weights:

    ones (weights of bits b): t[j] = sum over i of b_i s_i               b_i = bit i of j
    signs (weights 2b - 1):   t[j] = sum over i of b_i s_i + (1 - b_i) (m - s_i),  m = 2^k - 1 >= s

so that sum(w s) = sum(t) - m * (number of -1 weights) for signs: a constant per output channel.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa

GROUP = 4  # activations of one table
TABLE = 16  # bytes of one table, and output channels of one lookup
CHUNK = 16  # channels whose bytes one shuffle reads
GROUPS = CHUNK // GROUP


def pixels_per_vector(isa: Isa) -> int:
    return {Isa.VNNI: 4, Isa.AVX2: 2}[isa]


def shuffle(isa: Isa, table: Any, index: Any) -> Any:
    """Bytes `table[index]` within every 16 bytes."""
    from tvm.script.ir_builder import tirx as T

    size = pixels_per_vector(isa) * TABLE
    name = {Isa.VNNI: "llvm.x86.avx512.pshuf.b.512", Isa.AVX2: "llvm.x86.avx2.pshuf.b"}[isa]
    return T.call_llvm_pure_intrin(f"uint8x{size}", name, table, index)


def repeat(isa: Isa, vector: Any) -> Any:
    """16 bytes, once per pixel of a vector."""
    from tvm.script.ir_builder import tirx as T

    wide = pixels_per_vector(isa)
    return T.Shuffle([vector] * wide, list(range(TABLE * wide)))


class Builder(Protocol):
    """Tables from stored activations."""

    constants: NDArray[np.uint8]  # an argument of the kernel, `[n, 16]`

    def tables(self, constants: Any, stored: Any) -> list[Any]:
        """Vectors of tables (one per pixel) of the four groups, from `stored`: 16 bytes a pixel."""


def builder(isa: Isa, largest: int, *, signs: bool) -> Builder:
    """`largest`: bound of a stored activation, m where `signs`."""
    return BitBuilder(isa, signs) if largest == 1 else SumBuilder(isa, largest, signs)


class SumBuilder:
    """Any activations: copies every one to its 16 entries, turns s into m - s, and adds."""

    def __init__(self, isa: Isa, largest: int, signs: bool) -> None:
        self._isa = isa
        self._signs = signs
        bit = np.arange(TABLE) >> np.arange(GROUP)[:, None] & 1
        source = np.arange(CHUNK)[:, None] * np.ones((1, TABLE), np.int64)
        copies = source if signs else np.where(np.tile(bit, (GROUPS, 1)), source, 0x80)
        # m - s is an exclusive or, as m = 2^k - 1; a shuffle by 0x80 gives 0.
        flips = np.where(bit, 0, largest)
        self.constants = np.concatenate([copies, flips]).astype(np.uint8)

    def tables(self, constants: Any, stored: Any) -> list[Any]:
        return [self._table(constants, stored, group) for group in range(GROUPS)]

    def _table(self, constants: Any, stored: Any, group: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        total = None
        index = T.ramp(0, 1, TABLE)
        for i in range(GROUP):
            copy = repeat(self._isa, constants[group * GROUP + i, index])
            value = shuffle(self._isa, stored, copy)
            if self._signs:
                value = T.bitwise_xor(value, repeat(self._isa, constants[CHUNK + i, index]))
            total = value if total is None else total + value
        return total


class BitBuilder:
    """Activations of 0 and 1: packs four into a number a; t[j] counts the bits of a & j, or those
    in which a and j agree, and is looked up in turn."""

    def __init__(self, isa: Isa, signs: bool) -> None:
        self._isa = isa
        self._signs = signs
        numbers = np.arange(TABLE)
        counts = (numbers[:, None] >> np.arange(GROUP) & 1).sum(axis=1)
        lookup = GROUP - counts if signs else counts
        copies = np.repeat(np.arange(0, CHUNK, GROUP)[:, None], TABLE, axis=1)
        self.constants = np.concatenate([copies, numbers[None], lookup[None]]).astype(np.uint8)

    def tables(self, constants: Any, stored: Any) -> list[Any]:
        from tvm.script.ir_builder import tirx as T

        packed = T.bind(self._packed(stored))
        index = T.ramp(0, 1, TABLE)
        numbers, lookup = (repeat(self._isa, constants[GROUPS + i, index]) for i in range(2))
        operation = T.bitwise_xor if self._signs else T.bitwise_and
        found = []
        for group in range(GROUPS):
            copy = shuffle(self._isa, packed, repeat(self._isa, constants[group, index]))
            found.append(shuffle(self._isa, lookup, operation(copy, numbers)))
        return found

    def _packed(self, stored: Any) -> Any:
        """s_0 + 2 s_1 + 4 s_2 + 8 s_3 in the first byte of each four."""
        from tvm.script.ir_builder import tirx as T

        size = pixels_per_vector(self._isa) * CHUNK
        wide = self._isa == Isa.VNNI
        pairs = T.call_llvm_pure_intrin(
            f"int16x{size // 2}",
            "llvm.x86.avx512.pmaddubs.w.512" if wide else "llvm.x86.avx2.pmadd.ub.sw",
            stored,
            T.reinterpret(f"int8x{size}", T.broadcast(T.int16(0x0201), size // 2)),
        )
        fours = T.call_llvm_pure_intrin(
            f"int32x{size // 4}",
            "llvm.x86.avx512.pmaddw.d.512" if wide else "llvm.x86.avx2.pmadd.wd",
            pairs,
            T.reinterpret(f"int16x{size // 2}", T.broadcast(T.int32(0x00040001), size // 4)),
        )
        return T.reinterpret(f"uint8x{size}", fours)
