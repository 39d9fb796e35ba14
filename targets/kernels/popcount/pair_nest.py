"""The loops of the paired population count: one digit is kept, carries are counted.

A population count of 512 products takes three operations: exclusive or, count, addition. Two words
added to the digit that is kept (`counter`) take three as well and leave one carry, which is counted
and added: five for 1,024 products. Adding carries to carries as well gains nothing more where a
CPU counts the bits of vectors: two operations are saved by two [o].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.popcount.adders import Registers, adder_for
from mpqdeploy.targets.kernels.popcount.pairs import pair_activations
from mpqdeploy.targets.kernels.register_tiles import Level, Tile
from mpqdeploy.targets.kernels.shares import Share

_OPERANDS = 3  # of an addition, beside the weights: the digit, the first word, the carry


def pairs_of(words: int) -> int:
    """Pairs of a pixel's words; the last of an odd number is paired with none."""
    return -(-words // 2)


class PairInner:
    """What `RegisterNest` asks of the arithmetic of `PairNest`: where words are."""

    parts = 1  # bit planes of weights are few

    def __init__(self, words: int, planes: int) -> None:
        """`words` of a pixel's input channels in each of `planes`, those of the activations."""
        self.groups = pairs_of(words)
        self.planes = planes
        self.tile: Any = None
        self._words = words
        self._source: Any = None
        self._pairs: Any = None

    def bind(self, source: Any) -> None:
        """`source`: the bits buffer."""
        self._source = source

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        shape = (*self._source.shape[:-1], self.groups)
        self._pairs = T.alloc_buffer(shape, "uint32", scope="global")
        pair_activations(self._source, self._pairs, self._words)

    def begin(self, part: Any) -> None:
        self.tile = part

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> list[tuple[Any, Any]]:
        """By plane the first word of a pair, and its exclusive or with the second."""
        return [
            (self._source[(*place, plane, 2 * group)], self._pairs[(*place, plane, group)])
            for plane in range(self.planes)
        ]

    def ahead(self, level: Level, number: Any) -> None:
        """Bit planes of weights are few, and read in order."""


class PairNest(RegisterNest):
    """Two registers for every pixel, vector and plane: the digit, and the carries so far."""

    def __init__(
        self, geometry: Dense, isa: Isa, tile: Tile, inner: PairInner, weights: Any
    ) -> None:
        """`weights`: the buffer of `pair_words`, of whole pairs."""
        super().__init__(geometry, isa, tile, inner)  # type: ignore[arg-type]
        self._words = inner
        self._isa = isa
        self._weights = weights
        self._digits: list[Any] = []
        self._carries: list[Any] = []
        self._registers: Any = None
        self._adder: Any = None

    def _loops(self, origin: tuple[int, int], flush: Flush, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        count = self.tile.registers * self._words.planes
        self._digits, self._carries = (
            [T.alloc_buffer((self.lanes,), kind, scope="global") for _ in range(count)]
            for kind in ("uint32", "int32")
        )
        self._registers = Registers(_OPERANDS + 2 + 2 * self.tile.vectors, self.lanes)
        self._adder = adder_for(self._isa, self._registers)
        super()._loops(origin, flush, share)

    def _start(self, o: Any, block: Block) -> None:
        from tvm.script.ir_builder import tirx as T

        for number in range(block.pixels * self.tile.vectors * self._words.planes):
            for buffer, zero in (self._digits, T.uint32(0)), (self._carries, T.int32(0)):
                T.buffer_store(buffer[number], T.broadcast(zero, self.lanes), [self._index])

    def _add(self, block: Block, position: Any, activations: Callable[[Any, Any], Any]) -> None:
        vectors, planes = self.tile.vectors, self._words.planes
        weights = [self._hold_weights(position, vector) for vector in range(vectors)]
        for pixel in range(block.pixels):
            row, column = divmod(pixel, block.columns)
            fetched = activations(block.y + row, block.x + column)
            for vector, (first, both) in enumerate(weights):
                for plane, (one, differing) in enumerate(fetched):
                    number = (pixel * vectors + vector) * planes + plane
                    self._add_pair(number, (first, one), (both, differing))
        for held in weights:
            self._registers.release(*held)

    def _hold_weights(self, position: Any, vector: int) -> tuple[Any, Any]:
        groups, tile = self.inner.groups, self._words.tile * self.tile.vectors + vector
        tap, group = position // groups, position % groups
        first, both = (
            self._registers.hold(self._weights[tile, tap, 2 * group + word, self._index])
            for word in range(2)
        )
        return first, both

    def _add_pair(self, number: int, first: tuple[Any, Any], both: tuple[Any, Any]) -> None:
        """Add (weights, word) pairs: x_0 is the exclusive or of `first`, x_0 ^ x_1 of `both`."""
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        one = hold(T.bitwise_xor(read(first[0]), T.broadcast(first[1], self.lanes)))
        digit = hold(self._digits[number][self._index])
        operands = (read(both[0]), T.broadcast(both[1], self.lanes))
        total, carry = self._adder.pair(digit, one, operands)
        T.buffer_store(self._digits[number], read(total), [self._index])
        counted = T.cast(T.popcount(read(carry)), f"int32x{self.lanes}")
        sums = self._carries[number]
        T.buffer_store(sums, sums[self._index] + counted, [self._index])
        self._registers.release(total, carry)

    def _rest(self, block: Block, slot: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        planes = self._words.planes
        for place in range(block.pixels * self.tile.vectors):
            total: Any = None
            for number in reversed(range(place * planes, (place + 1) * planes)):
                digit = T.popcount(self._digits[number][self._index])
                carries = self._carries[number][self._index]
                sums = carries + carries + T.cast(digit, f"int32x{self.lanes}")
                total = sums if total is None else total + total + sums
            T.buffer_store(self._sums, total, [slot, place, self._index])
