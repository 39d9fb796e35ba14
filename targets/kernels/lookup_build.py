"""Two ways to build the tables of 16 channels of a vector of pixels.

For four stored activations s_0..s_3, a table holds one byte for each of the 16 sets j of weights:

    ones (weights of bits b): t[j] = sum over i of b_i s_i               b_i = bit i of j
    signs (weights 2b - 1):   t[j] = sum over i of b_i s_i + (1 - b_i) (m - s_i),  m = 2^k - 1 >= s

so that sum(w s) = sum(t) - m * (number of -1 weights) for signs: a constant per output channel.
"""

from __future__ import annotations

from typing import Any, Protocol

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

    def tables(self, stored: Any) -> list[Any]:
        """Vectors of tables (one per pixel) of the four groups, from `stored`: 16 bytes a pixel."""


def builder(isa: Isa, largest: int, *, signs: bool) -> Builder:
    """`largest`: bound of a stored activation, m where `signs`."""
    return BitBuilder(isa, signs) if largest == 1 else SumBuilder(isa, largest, signs)


def splat(isa: Isa, value: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.broadcast(T.uint8(value), pixels_per_vector(isa) * TABLE)


def numbers(isa: Isa) -> Any:
    """0..15 for every pixel: the sets of weights j. LLVM folds what is made of it to constants."""
    from tvm.script.ir_builder import tirx as T

    size = pixels_per_vector(isa) * TABLE
    return T.bitwise_and(T.cast(T.ramp(0, 1, size), f"uint8x{size}"), splat(isa, TABLE - 1))


def bit_of_number(isa: Isa, i: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.bitwise_and(T.shift_right(numbers(isa), splat(isa, i)), splat(isa, 1))


class SumBuilder:
    """Any activations: copies every one to its 16 entries, turns s into m - s, and adds."""

    def __init__(self, isa: Isa, largest: int, signs: bool) -> None:
        self._isa = isa
        self._largest = largest
        self._signs = signs

    def tables(self, stored: Any) -> list[Any]:
        return [self._table(stored, group) for group in range(GROUPS)]

    def _table(self, stored: Any, group: int) -> Any:
        total = None
        for i in range(GROUP):
            value = self._copies(stored, group * GROUP + i, i)
            total = value if total is None else total + value
        return total

    def _copies(self, stored: Any, channel: int, i: int) -> Any:
        """The activation of `channel` in the entries with bit i, m - s or 0 in the others."""
        from tvm.script.ir_builder import tirx as T

        clear = splat(self._isa, 1) - bit_of_number(self._isa, i)
        source = splat(self._isa, channel)
        if not self._signs:  # a shuffle by an index of 128 and more gives 0
            source = source + clear * splat(self._isa, 0x80)
            return shuffle(self._isa, stored, source)
        flip = clear * splat(self._isa, self._largest)  # m - s, as m = 2^k - 1
        return T.bitwise_xor(shuffle(self._isa, stored, source), flip)


class BitBuilder:
    """Activations of 0 and 1: packs four into a number a; t[j] counts the bits of a & j, or those
    in which a and j agree, and is looked up in turn."""

    def __init__(self, isa: Isa, signs: bool) -> None:
        self._isa = isa
        self._signs = signs

    def tables(self, stored: Any) -> list[Any]:
        from tvm.script.ir_builder import tirx as T

        packed = T.bind(self._packed(stored))
        counts = bit_of_number(self._isa, 0)
        for i in range(1, GROUP):
            counts = counts + bit_of_number(self._isa, i)
        lookup = splat(self._isa, GROUP) - counts if self._signs else counts
        operation = T.bitwise_xor if self._signs else T.bitwise_and
        found = []
        for group in range(GROUPS):
            copy = shuffle(self._isa, packed, splat(self._isa, group * GROUP))
            found.append(shuffle(self._isa, lookup, operation(copy, numbers(self._isa))))
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
