"""`Sets`: tables of the sums of all sets of 4 channels.

A lookup per bit plane of the weights takes 256 one-bit products with 16 lanes; as many as fit a
byte are added before they are widened (see `lookup_build` for what the tables hold).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.lookup_nest import NIBBLES, plane_factors, weight_planes
from mpqdeploy.targets.kernels.nest import channel_vectors, divisors
from mpqdeploy.targets.kernels.permute.lookups import Lookups
from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    INDEX,
    SETS,
    TABLES,
    Bytes,
    Micro,
    group_numbers,
    set_bit,
    splat,
    table_numbers,
)
from mpqdeploy.targets.program import Grid

GROUP = INDEX  # input channels of one table: any set of them has an entry
CHUNK = GROUP * GROUPS  # input channels of one lookup
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


class Sets(Lookups):
    """Steps of one or several chunks of 16 channels.

    `largest` bounds a stored activation, and is 2^k - 1 for bipolar weights.
    """

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        vectors: int,
        weights: NDArray[np.int32],
        grid: Grid,
        largest: int,
    ) -> None:
        self._step = chunks_at_once(geometry.in_channels, largest)
        self._chunks = -(-geometry.in_channels // CHUNK)
        self._signs = grid.bipolar
        self._largest = largest
        self._factors = plane_factors(grid)
        self._tables: Any = None
        codes = order_indices(weights, grid, vectors, micro.isa.lanes)
        super().__init__(geometry, micro, vectors, codes, NIBBLES, self._chunks // self._step)

    def index(self, codes: Any, number: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        tables = group_numbers(self.size) * splat(SETS, self.size)
        return T.bitwise_or(codes, tables)

    def build(self) -> None:
        from tvm.script.ir_builder import tirx as T

        shape = tuple(int(extent) for extent in self.source.shape[:3])
        self._tables = T.alloc_buffer((*shape, self._chunks, TABLES), "uint8", scope="global")
        with (
            T.serial(0, shape[0]) as n,
            T.serial(0, shape[1]) as y,
            T.serial(0, shape[2]) as x,
            T.serial(0, self._chunks) as chunk,
        ):
            found = self._sums((n, y, x), chunk)
            T.buffer_store(self._tables, found, [n, y, x, chunk, T.ramp(0, 1, TABLES)])

    def _sums(self, place: tuple[Any, Any, Any], chunk: Any) -> Any:
        """The tables of a pixel's chunk."""
        from tvm.script.ir_builder import tirx as T

        total: Any = None
        for i in range(GROUP):
            value = self.picked(place, chunk * CHUNK, table_numbers() * splat(GROUP) + splat(i))
            value = self._existing(value, chunk, i)
            if self._signs:  # m - s where the weight is -1, as m = 2^k - 1
                value = T.bitwise_xor(value, (splat(1) - set_bit(i)) * splat(self._largest))
            else:
                value = T.bitwise_and(value, splat(0) - set_bit(i))
            total = value if total is None else total + value
        return total

    def _existing(self, value: Any, chunk: Any, i: int) -> Any:
        """Undefined channels cleared, where weights cannot: signs are never 0."""
        from tvm.script.ir_builder import tirx as T

        channels = self.geometry.in_channels
        if not self._signs or channels % CHUNK == 0:
            return value
        group = T.cast(table_numbers(), f"int32x{TABLES}")
        channel = group * T.broadcast(GROUP, TABLES) + T.broadcast(chunk * CHUNK + i, TABLES)
        return T.Select(channel < T.broadcast(channels, TABLES), value, splat(0))

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        """The tables of the step's chunks."""
        chunks = (group * self._step + part for part in range(self._step))
        return [Bytes(self._tables, (*place, chunk), 0) for chunk in chunks]

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        steps = self.geometry.taps * self.groups
        for plane, factor in enumerate(self._factors):
            found: Any = None
            for part, tables in enumerate(activations):
                chunk = (self.tile * steps + position) * self._step + part
                number = (chunk * self.vectors + vector) * len(self._factors) + plane
                value = self.micro.look_up(tables, self.indices(number))
                found = value if found is None else found + value
            acc = self.micro.add(acc, found, T.broadcast(T.int8(factor), self.size))
        return acc
