"""The loops of the paired population count: one digit is kept, carries are counted.

A population count of 512 products takes three operations: exclusive or, count, addition. Two words
added to the digit that is kept (`counter`) take three as well and leave one carry, which is counted
and added: five for 1,024 products. Adding carries to carries as well gains nothing more where a
CPU counts the bits of vectors: two operations are saved by two [o].

Where a step reads lies in a table: LLVM would unroll the taps of few words, see that neighbouring
pixels read the same ones, and keep those on the stack (see `dot_runs`): 166 for 128 us with 64
channels on 56 x 56 [o].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.popcount.adders import Registers, adder_for
from mpqdeploy.targets.kernels.popcount.pairs import Pairs
from mpqdeploy.targets.kernels.prefetch import prefetch_line
from mpqdeploy.targets.kernels.register_tiles import Level, Tile
from mpqdeploy.targets.kernels.shares import Share

PAIR = 2  # words, each a line for 16 output channels
_OPERANDS = 5  # of an addition, beside the weights: the digit, the first word, sum and carry, one


class PairInner:
    """What `RegisterNest` asks of an arithmetic, where `PairNest` does not see to it itself."""

    parts = 1  # bit planes of weights are few

    def __init__(self, pairs: Pairs) -> None:
        self.groups = pairs.each
        self.tile: Any = None

    def allocate(self) -> None:
        """`PairNest` does."""

    def begin(self, part: Any) -> None:
        self.tile = part

    def ahead(self, level: Level, number: Any) -> None:
        """Bit planes of weights are few, and read in order."""


class PairNest(RegisterNest):
    """Two registers for every pixel, vector and plane: the digit, and the carries so far."""

    def __init__(self, geometry: Dense, isa: Isa, tile: Tile, pairs: Pairs) -> None:
        self._inner = PairInner(pairs)
        # Its own start, accumulation and rest take the place of the arithmetic of an `Inner`.
        super().__init__(geometry, isa, tile, self._inner)  # type: ignore[arg-type]
        self._isa = isa
        self._pairs = pairs
        self._source: Any = None
        self._weights: Any = None
        self._table: Any = None
        self._words: Any = None
        self._digits: list[Any] = []
        self._carries: list[Any] = []
        self._registers: Any = None
        self._adder: Any = None

    def declare(self, source: Any, weights: Any) -> tuple[NDArray[np.int32]]:
        """Takes the declared bits buffer and that of `Pairs.pack`, declares the table; returns that
        constant."""
        from tvm.script.ir_builder import tirx as T

        self._source, self._weights = source, weights
        table = self._pairs.table(self.geometry, int(source.shape[2]))
        self._table = T.arg("table", T.buffer(table.shape, "int32"))
        return (table,)

    def _loops(self, origin: tuple[int, int], flush: Flush, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        count = self.tile.registers * self._pairs.planes
        self._digits, self._carries = (
            [T.alloc_buffer((self.lanes,), kind, scope="global") for _ in range(count)]
            for kind in ("uint32", "int32")
        )
        self._registers = Registers(_OPERANDS + 2 * self.tile.vectors, self.lanes)
        self._adder = adder_for(self._isa, self._registers)
        self._words = self._pairs.emit(self._source)
        super()._loops(origin, flush, share)

    def _start(self, o: Any, block: Block) -> None:
        from tvm.script.ir_builder import tirx as T

        for number in range(block.pixels * self.tile.vectors * self._pairs.planes):
            for buffer, zero in (self._digits, T.uint32(0)), (self._carries, T.int32(0)):
                T.buffer_store(buffer[number], T.broadcast(zero, self.lanes), [self._index])

    def _accumulate(self, origin: tuple[int, int], block: Block, o: Any, part: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        _, height, width, *_ = (int(extent) for extent in self._source.shape)
        down, across = self.geometry.stride
        self._ask("block", o, block.number)
        with T.serial(0, int(self._table.shape[0])) as step:
            offset = T.bind(self._table[step])
            self._prefetch(o, block, step)

            def first(y: Any, x: Any) -> Any:
                """The first word of output pixel (y, x) that this step reads."""
                row, column = y * down + origin[0], x * across + origin[1]
                pixel = (block.n * height + row) * width + column
                return pixel * self._pairs.pitch + offset

            self._add(block, step, first)

    def _prefetch(self, o: Any, block: Block, step: Any) -> None:
        """Ask for a line of the next tile's weights: all of them are more than a first-level cache
        holds, and the processor's own prefetchers stop at every page."""
        from tvm.script.ir_builder import tirx as T

        vectors, steps = self.tile.vectors, int(self._table.shape[0])
        lines = vectors * steps * PAIR
        line = T.min(block.number * steps + step, lines - 1)
        first = (o + 1) * lines + line
        place = (first // (steps * PAIR), first // PAIR % steps, first % PAIR, 0)
        prefetch_line(self._weights[place])

    def _add(self, block: Block, position: Any, activations: Callable[[Any, Any], Any]) -> None:
        vectors, planes = self.tile.vectors, self._pairs.planes
        weights = [self._hold_weights(position, vector) for vector in range(vectors)]
        for pixel in range(block.pixels):
            row, column = divmod(pixel, block.columns)
            first = activations(block.y + row, block.x + column)
            for vector in range(vectors):
                for plane in range(planes):
                    number = (pixel * vectors + vector) * planes + plane
                    self._add_pair(number, weights[vector], first + plane * 2 * self._pairs.each)
        for held in weights:
            self._registers.release(*held)

    def _hold_weights(self, step: Any, vector: int) -> tuple[Any, Any]:
        tile = self._inner.tile * self.tile.vectors + vector
        first, both = (
            self._registers.hold(self._weights[tile, step, word, self._index]) for word in range(2)
        )
        return first, both

    def _add_pair(self, number: int, weights: tuple[Any, Any], place: Any) -> None:
        """Add the pair of words at `place`, together with the weights."""
        from tvm.script.ir_builder import tirx as T

        hold, read = self._registers.hold, self._registers.read
        one, both = (T.broadcast(self._words[place + word], self.lanes) for word in range(2))
        first = hold(T.bitwise_xor(read(weights[0]), one))
        digit = hold(self._digits[number][self._index])
        total, carry = self._adder.pair(digit, first, (read(weights[1]), both))
        T.buffer_store(self._digits[number], read(total), [self._index])
        counted = T.cast(T.popcount(read(carry)), f"int32x{self.lanes}")
        sums = self._carries[number]
        T.buffer_store(sums, sums[self._index] + counted, [self._index])
        self._registers.release(total, carry)

    def _rest(self, block: Block, slot: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        planes = self._pairs.planes
        for place in range(block.pixels * self.tile.vectors):
            total: Any = None
            for number in reversed(range(place * planes, (place + 1) * planes)):
                digit = T.popcount(self._digits[number][self._index])
                carries = self._carries[number][self._index]
                sums = carries + carries + T.cast(digit, f"int32x{self.lanes}")
                total = sums if total is None else total + total + sums
            T.buffer_store(self._sums, total, [slot, place, self._index])
