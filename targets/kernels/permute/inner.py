"""The arithmetic of the permute kernel, as the `Inner` of a `RegisterNest`.

Tables of all pixels are built first, `[N, H, W, chunks, 64]`: for every set of 4 neighbouring
channels the sum of its activations (see `lookup_build` for what the tables hold). Then a lookup per
bit plane of the weights, 256 one-bit products, as many as fit a byte added before they are widened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.lookup_nest import NIBBLES, plane_factors, weight_planes
from mpqdeploy.targets.kernels.nest import Level, channel_vectors, divisors
from mpqdeploy.targets.kernels.packing import Weights, unpacked_at_once
from mpqdeploy.targets.kernels.permute.micro import (
    CHUNK,
    GROUP,
    GROUPS,
    SETS,
    TABLES,
    Micro,
    set_numbers,
    splat,
)
from mpqdeploy.targets.program import Grid

VECTOR = 64  # indices that are restored at once
MOST_AT_ONCE = 4  # chunks: more would fill the registers with indices, and additions are few


def order_indices(
    weights: NDArray[np.int32], grid: Grid, vectors: int, lanes: int
) -> NDArray[np.int32]:
    """`[O, KH, KW, I]` as nibbles `[codes]`, bit i from input channel 4 g + i.

    Order: tile of `vectors` vectors of output channels, kernel row, kernel column, chunk of 16
    input channels, vector, plane, output channel, group. Missing channels are ones for bipolar
    weights (their activations are cleared), else zeros.
    """
    out, height, width, inputs = weights.shape
    tiles = channel_vectors(out, lanes) // vectors
    planes = weight_planes(weights, grid, tiles * vectors * lanes, -(-inputs // CHUNK) * CHUNK)
    split = planes.reshape(len(planes), tiles, vectors, lanes, height, width, -1, GROUPS, GROUP)
    nibbles: NDArray[np.int32] = (split << np.arange(GROUP)).sum(axis=-1, dtype=np.int32)
    # from plane, tile, vector, lane, kh, kw, chunk, group
    #   to tile, kh, kw, chunk, vector, plane, lane, group
    return nibbles.transpose(1, 4, 5, 6, 2, 0, 3, 7).reshape(-1)


def chunks_at_once(channels: int, largest: int) -> int:
    """Chunks whose lookups are added as bytes: a divisor of all."""
    fitting = min(255 // (GROUP * largest), MOST_AT_ONCE)
    return divisors(-(-channels // CHUNK), fitting)[-1]


class PermuteInner:
    """Lookups by `micro` in steps of one or several chunks of 16 channels.

    `largest` bounds a stored activation, and is 2^k - 1 for bipolar weights.
    """

    parts = 1  # indices are restored once for all

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        vectors: int,
        weights: NDArray[np.int32],
        grid: Grid,
        largest: int,
    ) -> None:
        self._geometry = geometry
        self._micro = micro
        self._vectors = vectors
        self._signs = grid.bipolar
        self._largest = largest
        self._factors = plane_factors(grid)
        self._step = chunks_at_once(geometry.in_channels, largest)
        self.groups = -(-geometry.in_channels // CHUNK) // self._step
        codes = order_indices(weights, grid, vectors, micro.isa.lanes)
        missing = -codes.size % unpacked_at_once(NIBBLES)
        self.weights = Weights(np.pad(codes, (0, missing))[None], NIBBLES, in_registers=True)
        self._source: Any = None
        self._start: Any = None
        self._tables: Any = None
        self._indices: Any = None
        self._tile: Any = None

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the bytes buffer; `start`: what accumulators start at, per output channel."""
        self._source, self._start = source, start

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        shape = tuple(int(extent) for extent in self._source.shape[:3])
        chunks = self.groups * self._step
        self._tables = T.alloc_buffer((*shape, chunks, TABLES), "uint8", scope="global")
        self._indices = T.alloc_buffer((self.weights.length,), "uint8", scope="global")
        self.weights.unpack(0)
        self._restore_indices()
        with (
            T.serial(0, shape[0]) as n,
            T.serial(0, shape[1]) as y,
            T.serial(0, shape[2]) as x,
            T.serial(0, chunks) as chunk,
        ):
            place = [n, y, x]
            found = self._sums(lambda at: self._source[(*place, at)], chunk)
            T.buffer_store(self._tables, found, [*place, chunk, T.ramp(0, 1, TABLES)])

    def _restore_indices(self) -> None:
        """Nibbles to indices, once per call: the number of the group above the set."""
        from tvm.script.ir_builder import tirx as T

        number = T.bitwise_and(T.ramp(0, 1, VECTOR), T.broadcast(GROUPS - 1, VECTOR))
        group = T.cast(number * T.broadcast(SETS, VECTOR), f"uint8x{VECTOR}")
        unit = unpacked_at_once(NIBBLES)
        with T.serial(0, self.weights.length // unit) as i:
            for run in range(unit // VECTOR):
                sets = self.weights.load_unit(i, run * VECTOR, VECTOR)
                index = T.bitwise_or(T.reinterpret(f"uint8x{VECTOR}", sets), group)
                T.buffer_store(self._indices, index, [T.ramp(i * unit + run * VECTOR, 1, VECTOR)])

    def _sums(self, pixel: Callable[[Any], Any], chunk: Any) -> Any:
        """The tables of a pixel's chunk."""
        from tvm.script.ir_builder import tirx as T

        total: Any = None
        for i in range(GROUP):
            value = self._existing(self._micro.spread(pixel, chunk * CHUNK, i), chunk, i)
            bit = T.bitwise_and(T.shift_right(set_numbers(), splat(i)), splat(1))
            if self._signs:  # m - s where the weight is -1, as m = 2^k - 1
                value = T.bitwise_xor(value, (splat(1) - bit) * splat(self._largest))
            else:
                value = T.bitwise_and(value, splat(0) - bit)
            total = value if total is None else total + value
        return total

    def _existing(self, value: Any, chunk: Any, i: int) -> Any:
        """Undefined channels cleared, where weights cannot: signs are never 0."""
        from tvm.script.ir_builder import tirx as T

        channels = self._geometry.in_channels
        if not self._signs or channels % CHUNK == 0:
            return value
        group = T.shift_right(T.ramp(0, 1, TABLES), T.broadcast(GROUP, TABLES))
        channel = group * T.broadcast(GROUP, TABLES) + T.broadcast(chunk * CHUNK + i, TABLES)
        return T.Select(channel < T.broadcast(channels, TABLES), value, splat(0))

    def begin(self, tile: Any) -> None:
        self._tile = tile

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return self._start[T.ramp(channel, 1, self._micro.isa.lanes)]

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        """The tables of the step's chunks, each as a function of the entries to read."""
        return [self._tables_of(place, group * self._step + part) for part in range(self._step)]

    def _tables_of(self, place: tuple[Any, Any, Any], chunk: Any) -> Callable[[Any], Any]:
        return lambda at: self._tables[(*place, chunk, at)]

    def ahead(self, level: Level, number: Any) -> None:
        """Indices were restored a moment ago: they are in a cache."""

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        steps = self._geometry.taps * self.groups
        for plane, factor in enumerate(self._factors):
            found: Any = None
            for part, tables in enumerate(activations):
                chunk = (self._tile * steps + position) * self._step + part
                number = (chunk * self._vectors + vector) * len(self._factors) + plane
                value = self._micro.look_up(tables, self._index(number))
                found = value if found is None else found + value
            acc = self._micro.add(acc, found, factor)
        return acc

    def _index(self, number: Any) -> Any:
        """The `number`-th vector of indices."""
        from tvm.script.ir_builder import tirx as T

        size = self._micro.isa.lanes * GROUPS
        return self._indices[T.ramp(number * size, 1, size)]
