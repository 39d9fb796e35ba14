"""The loops of the carry-save population count.

    output-channel vectors > images > rows > column tiles
        > counters in registers: as many taps as fit the decoded-instruction cache, unrolled

Words of input channels are taken in pairs (x_0, x_0 ^ x_1), see `counter`: the weights are packed
that way, and the activations' exclusive ors are formed once per call. The last of an odd number of
words stands alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush, Outlet, Store
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.popcount.adders import Registers, adder_for
from mpqdeploy.targets.kernels.popcount.counter import Counter
from mpqdeploy.targets.kernels.register_tiles import channel_vectors
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.layout import WORD

UNROLLED = 160  # words times pixels: some 800 instructions, half of what the decoded cache holds

_OPERANDS = 4  # registers beside the counters: two of weights, one being added, one in between


def pair_words(words: NDArray[Any]) -> NDArray[np.uint32]:
    """Words of `pack_words`, one plane, as `[vectors, taps, words, lanes]`: the second of every
    pair replaced by its exclusive or with the first."""
    paired: NDArray[np.uint32] = words[:, :, :, 0].astype(np.uint32)
    whole = paired.shape[2] // 2 * 2
    paired[:, :, 1:whole:2] ^= paired[:, :, 0:whole:2]
    return paired


def words_of(geometry: Dense) -> int:
    """Words of one plane that an output adds."""
    return geometry.taps * -(-geometry.in_channels // WORD)


def unpaired(weights: Any, vector: Any, tap: Any, word: Any, lanes: int) -> Any:
    """The word that `pair_words` has replaced, again; all positions may be expressions."""
    from tvm.script.ir_builder import tirx as T

    index = T.ramp(0, 1, lanes)
    own = weights[vector, tap, word, index]
    before = weights[vector, tap, T.max(word - 1, 0), index]
    zero = T.broadcast(T.uint32(0), lanes)
    return T.bitwise_xor(own, T.if_then_else(word % 2 == 1, before, zero))


class CarryNest:
    """Emits the loops; its owner declares the buffers and says where counts go."""

    def __init__(self, geometry: Dense, isa: Isa, columns: int, planes: int) -> None:
        self._geometry = geometry
        self._lanes = isa.lanes
        self._columns = columns
        self._planes = planes
        self._words = -(-geometry.in_channels // WORD)
        self._isa = isa
        self._source: Any = None
        self._weights: Any = None
        self._pairs: Any = None
        self._spill: Any = None
        self._levels = (words_of(geometry) * ((1 << planes) - 1)).bit_length()
        self._registers: Any = None
        self._adder: Any = None
        self._sums: list[list[Any]] = []

    def emit(
        self,
        source: Any,
        weights: Any,
        origin: tuple[int, int],
        store: Store,
        outlet: Outlet,
        share: Share,
    ) -> None:
        """`source`: the bits buffer; `weights`: `pair_words`; `origin`: see `Dense.origin`. `store`
        takes the counts to `outlet`."""
        from tvm.script.ir_builder import tirx as T

        geometry = self._geometry
        self._source, self._weights = source, weights
        self._allocate()
        self._pair_activations()
        flush = Flush(vectors=1, lanes=self._lanes, sums=self._spill, store=store, outlet=outlet)
        with (
            T.serial(0, channel_vectors(geometry.out_channels, self._lanes)) as vector,
            T.serial(0, geometry.batch) as n,
            share.loop(geometry.out_height) as y,
        ):
            for span in cut(geometry.out_width, self._columns):
                with T.serial(0, span.count) as j:
                    at = (n, y, span.start + j * span.step)
                    self._count(origin, vector, at, span.step)
                    flush.emit(vector, Block(*at, 0, 1, span.step), 0)

    def _allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        shape = (*self._source.shape[:-1], max(self._words // 2, 1))
        self._pairs = T.alloc_buffer(shape, "uint32", scope="global")
        self._spill = T.alloc_buffer((1, self._columns, self._lanes), "int32", scope="global")
        self._sums = [
            [T.alloc_buffer((self._lanes,), "uint32", scope="global") for _ in range(self._levels)]
            for _ in range(self._columns)
        ]
        # Three values meet on a level, and a carry may go beyond the last; then two of weights.
        count = 3 * (self._levels + 1) * self._columns + _OPERANDS
        self._registers = Registers(count, self._lanes)
        self._adder = adder_for(self._isa, self._registers)

    def _pair_activations(self) -> None:
        from tvm.script.ir_builder import tirx as T

        images, rows, columns, planes, _ = self._source.shape
        with (
            T.serial(0, images * rows) as row,
            T.serial(0, columns * planes) as place,
            T.serial(0, self._words // 2) as pair,
        ):
            at = (row // rows, row % rows, place // planes, place % planes)
            both = T.bitwise_xor(self._source[(*at, 2 * pair)], self._source[(*at, 2 * pair + 1)])
            T.buffer_store(self._pairs, both, [*at, pair])

    def _count(
        self, origin: tuple[int, int], vector: Any, at: tuple[Any, Any, Any], pixels: int
    ) -> None:
        """Leave the counts of `pixels` neighbours from output pixel `at` in the spill."""
        from tvm.script.ir_builder import tirx as T

        rows, columns = self._geometry.kernel
        words = self._words * self._planes * pixels
        if rows * columns * words <= UNROLLED:
            counters: list[Counter[Any]] = [Counter(self._adder) for _ in range(pixels)]
            for tap in range(rows * columns):
                self._tap(origin, vector, at, (tap // columns, tap % columns), counters)
        else:
            at_once = columns if columns * words <= UNROLLED else 1
            self._clear(pixels)
            with T.serial(0, rows) as kh, T.serial(0, columns // at_once) as step:
                counters = self._taken_up(pixels)
                for one in range(at_once):
                    self._tap(origin, vector, at, (kh, step * at_once + one), counters)
                self._keep(counters)
            counters = self._taken_up(pixels)
        index = T.ramp(0, 1, self._lanes)
        for pixel, counter in enumerate(counters):
            digits = self._digits(counter)
            T.buffer_store(self._spill, self._adder.count(digits), [0, pixel, index])
            self._registers.release(*digits.values())

    def _tap(
        self,
        origin: tuple[int, int],
        vector: Any,
        at: tuple[Any, Any, Any],
        tap: tuple[Any, Any],
        counters: list[Counter[Any]],
    ) -> None:
        """Add what tap (kernel row, kernel column) gives every pixel."""
        from tvm.script.ir_builder import tirx as T

        geometry, (n, y, x) = self._geometry, at
        row = origin[0] + y * geometry.stride[0] + tap[0] * geometry.dilation[0]
        number = tap[0] * geometry.kernel[1] + tap[1]
        index = T.ramp(0, 1, self._lanes)
        for word in range(0, self._words, 2):
            paired = word + 1 < self._words
            first = self._registers.hold(self._weights[vector, number, word, index])
            second = self._weights[vector, number, word + 1, index] if paired else None
            both = None if second is None else self._registers.hold(second)
            for pixel, counter in enumerate(counters):
                column = (x + pixel) * geometry.stride[1] + tap[1] * geometry.dilation[1]
                for plane in range(self._planes):
                    place = (n, row, origin[1] + column, plane)
                    self._word(counter, plane, (*place, word), first, both)
            self._registers.release(*(one for one in (first, both) if one is not None))

    def _word(
        self, counter: Counter[Any], plane: int, place: tuple[Any, ...], first: Any, both: Any
    ) -> None:
        """Add the activations at `place` of the source, together with the next word's if `both`."""
        from tvm.script.ir_builder import tirx as T

        read = self._registers.read
        one = T.broadcast(self._source[place], self._lanes)
        differing = self._registers.hold(T.bitwise_xor(read(first), one))
        if both is None:
            counter.add(plane, differing)
            return
        activations = T.broadcast(self._pairs[(*place[:-1], place[-1] // 2)], self._lanes)
        counter.add_pair(plane, differing, (read(both), activations))

    # -- counters that outlive an iteration ----------------------------------------------------

    def _clear(self, pixels: int) -> None:
        from tvm.script.ir_builder import tirx as T

        zero = T.broadcast(T.uint32(0), self._lanes)
        for sums in self._sums[:pixels]:
            for digit in sums:
                T.buffer_store(digit, zero, [T.ramp(0, 1, self._lanes)])

    def _taken_up(self, pixels: int) -> list[Counter[Any]]:
        from tvm.script.ir_builder import tirx as T

        counters: list[Counter[Any]] = [Counter(self._adder) for _ in range(pixels)]
        for counter, sums in zip(counters, self._sums, strict=False):
            for level, digit in enumerate(sums):
                counter.add(level, self._registers.hold(digit[T.ramp(0, 1, self._lanes)]))
        return counters

    def _keep(self, counters: list[Counter[Any]]) -> None:
        from tvm.script.ir_builder import tirx as T

        for counter, sums in zip(counters, self._sums, strict=False):
            for level, digit in self._digits(counter).items():
                value = self._registers.read(digit)
                T.buffer_store(sums[level], value, [T.ramp(0, 1, self._lanes)])
                self._registers.release(digit)

    def _digits(self, counter: Counter[Any]) -> dict[int, Any]:
        """Without the carries out of the last level, which no count reaches."""
        digits = counter.digits()
        for level in [level for level in digits if level >= self._levels]:
            self._registers.release(digits.pop(level))
        return digits
