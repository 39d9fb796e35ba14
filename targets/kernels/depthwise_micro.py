"""The inner products of depthwise convolutions, per instruction-set level.

A kernel column's taps are taken `group` rows at a time: the stored bytes of those rows form one
32-bit word per channel, which neighbouring outputs of a row share, and one instruction multiplies
the word's parts with as many weights and adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.program import Grid

INT16_MAX = (1 << 15) - 1


class Micro(Protocol):
    """One way to multiply; `group` is how many rows of a kernel column make a word."""

    group: int

    def prepare(self, weights: Weights) -> None:
        """Emits what has to happen to the restored weights, once."""

    def word(self, rows: Sequence[Any]) -> Any:
        """Up to `group` uint8 vectors of channels, from adjacent kernel rows, as one vector."""

    def accumulate(self, start: Any, terms: Sequence[tuple[Any, Any]]) -> Any:
        """start (int32) + the products of every (word, index of its first weight)."""


def micro_for(isa: Isa, lanes: int, weight_grid: Grid, largest: int) -> Micro:
    """The level's way for stored values up to `largest`."""
    if weight_grid.high <= 127 and isa is Isa.VNNI:
        return Bytes(lanes)
    if weight_grid.high <= 127 and isa is Isa.AVX2:
        return Pairs(lanes)
    return Plain(lanes, weight_grid, largest)


def combine(rows: Sequence[Any], bits: int, lanes: int) -> Any:
    """One int32 per channel: row r's byte from bit r * bits up."""
    from tvm.script.ir_builder import tirx as T

    word = T.cast(rows[0], f"int32x{lanes}")
    for index, row in enumerate(rows[1:], start=1):
        shift = T.broadcast(T.int32(bits * index), lanes)
        word = T.bitwise_or(word, T.shift_left(T.cast(row, f"int32x{lanes}"), shift))
    return word


class Bytes:
    """AVX-512 VNNI: vpdpbusd adds four products of an unsigned and a signed byte, exactly."""

    group = 4

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._weights: Weights | None = None

    def prepare(self, weights: Weights) -> None:
        self._weights = weights

    def word(self, rows: Sequence[Any]) -> Any:
        return combine(rows, 8, self.lanes)

    def accumulate(self, start: Any, terms: Sequence[tuple[Any, Any]]) -> Any:
        from tvm.script.ir_builder import tirx as T

        if self._weights is None:
            raise ValueError("prepare() comes first")
        acc = start
        for word, index in terms:
            acc = T.call_llvm_pure_intrin(
                f"int32x{self.lanes}",
                f"llvm.x86.avx512.vpdpbusd.{self.lanes * 32}",
                acc,
                T.reinterpret(f"int8x{self.lanes * 4}", word),
                self._weights.load(index, self.lanes * 4),
            )
        return acc


class Pairs:
    """AVX2: pmaddwd adds two products of signed 16-bit numbers; no sum of bytes exceeds int32."""

    group = 2

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._wide: Any = None

    def prepare(self, weights: Weights) -> None:
        """Widens all weights to 16 bits."""
        from tvm.script.ir_builder import tirx as T

        lanes = self.lanes * 2
        self._wide = T.alloc_buffer((weights.length,), "int16")
        with T.serial(0, weights.length // lanes) as i:
            wide = T.cast(weights.load(i * lanes, lanes), f"int16x{lanes}")
            T.buffer_store(self._wide, wide, [T.ramp(i * lanes, 1, lanes)])

    def word(self, rows: Sequence[Any]) -> Any:
        return combine(rows, 16, self.lanes)

    def accumulate(self, start: Any, terms: Sequence[tuple[Any, Any]]) -> Any:
        from tvm.script.ir_builder import tirx as T

        name = "llvm.x86.avx2.pmadd.wd" if self.lanes == 8 else "llvm.x86.sse2.pmadd.wd"
        acc = start
        for word, index in terms:
            acc = acc + T.call_llvm_pure_intrin(
                f"int32x{self.lanes}",
                name,
                T.reinterpret(f"int16x{self.lanes * 2}", word),
                self._wide[T.ramp(index, 1, self.lanes * 2)],
            )
        return acc


class Plain:
    """Any CPU: products in 16 bits where they fit, widened as seldom as the widths allow."""

    group = 1

    def __init__(self, lanes: int, weight_grid: Grid, largest: int) -> None:
        self.lanes = lanes
        fits = weight_grid.high <= 127
        self._type = f"int16x{lanes}" if fits else f"int32x{lanes}"
        self.run = exact_run(largest, weight_grid) if fits else 1
        self._weights: Weights | None = None

    def prepare(self, weights: Weights) -> None:
        self._weights = weights

    def word(self, rows: Sequence[Any]) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.cast(rows[0], self._type)

    def accumulate(self, start: Any, terms: Sequence[tuple[Any, Any]]) -> Any:
        from tvm.script.ir_builder import tirx as T

        if self._weights is None:
            raise ValueError("prepare() comes first")
        acc = start
        for first in range(0, len(terms), self.run):
            part = None
            for word, index in terms[first : first + self.run]:
                product = word * T.cast(self._weights.load(index, self.lanes), self._type)
                part = product if part is None else part + product
            acc = acc + T.cast(part, f"int32x{self.lanes}")
        return acc


def exact_run(largest: int, weight_grid: Grid) -> int:
    """How many products of a stored value up to `largest` and a weight add up within int16,
    whatever they are: at least 1, since 255 * -128 does."""
    product = largest * max(abs(weight_grid.low), abs(weight_grid.high))
    return max(1, INT16_MAX // product)
