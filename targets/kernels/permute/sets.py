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
from mpqdeploy.targets.kernels.permute.lookups import Lookups, Place
from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    INDEX,
    SETS,
    TABLES,
    Micro,
    constant,
    group_numbers,
    less_unless_set,
    set_bit,
    splat,
)
from mpqdeploy.targets.kernels.register_tiles import Tile, channel_vectors, divisors
from mpqdeploy.targets.program import Grid

GROUP = INDEX  # input channels of one table: any set of them has an entry
CHUNK = GROUP * GROUPS  # input channels of one lookup
MOST_AT_ONCE = 4  # chunks: more would fill the registers with indices, and additions are few


def chunks_of(channels: int) -> int:
    """Chunks of a pixel; the last one may be of fewer channels."""
    return -(-channels // CHUNK)


def table_bytes(channels: int) -> int:
    """Of a pixel's tables."""
    return chunks_of(channels) * TABLES


def order_indices(
    weights: NDArray[np.int32], grid: Grid, vectors: int, lanes: int
) -> NDArray[np.int32]:
    """`[O, KH, KW, I]` as nibbles `[tiles of `vectors` vectors of output channels, codes]`, bit i
    from input channel 4 g + i.

    A tile's order: kernel row, kernel column, chunk of 16
    input channels, vector, plane, output channel, group. Missing channels are ones for bipolar
    weights (their activations are cleared), else zeros.
    """
    out, height, width, inputs = weights.shape
    tiles = channel_vectors(out, lanes) // vectors
    planes = weight_planes(weights, grid, tiles * vectors * lanes, chunks_of(inputs) * CHUNK)
    split = planes.reshape(len(planes), tiles, vectors, lanes, height, width, -1, GROUPS, GROUP)
    nibbles: NDArray[np.int32] = (split << np.arange(GROUP)).sum(axis=-1, dtype=np.int32)
    # from plane, tile, vector, lane, kh, kw, chunk, group
    #   to tile, kh, kw, chunk, vector, plane, lane, group
    return nibbles.transpose(1, 4, 5, 6, 2, 0, 3, 7).reshape(tiles, -1)


def chunks_at_once(channels: int, largest: int) -> int:
    """Chunks whose lookups are added as bytes: a divisor of all."""
    fitting = min(255 // (GROUP * largest), MOST_AT_ONCE)
    return divisors(chunks_of(channels), fitting)[-1]


class Sets(Lookups):
    """Steps of one or several chunks of 16 channels.

    `largest` bounds a stored activation, and is 2^k - 1 for bipolar weights.
    """

    unit = GROUPS

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        tile: Tile,
        weights: NDArray[np.int32],
        grid: Grid,
        largest: int,
    ) -> None:
        self.geometry = geometry
        channels = geometry.in_channels
        self._step = chunks_at_once(channels, largest)
        self.groups = chunks_of(channels) // self._step
        self._signs = grid.bipolar
        self._largest = largest
        self._factors = plane_factors(grid)
        codes = order_indices(weights, grid, tile.vectors, micro.isa.lanes)
        tables = table_bytes(channels), 0
        super().__init__(micro, tile, codes, NIBBLES, channels=channels, group=GROUP, tables=tables)

    def index(self, codes: Any, number: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        tables = group_numbers(self.size) * splat(SETS, self.size)
        return T.bitwise_or(codes, tables)

    def term(self, value: Any, bit: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        if self._signs:
            return less_unless_set(value, bit, self._largest)
        return T.bitwise_and(value, constant(-set_bit(bit)))

    def fetch(self, place: Place, group: Any) -> Any:
        """The tables of the step's chunks."""
        chunks = (group * self._step + part for part in range(self._step))
        return [self.tables(place, chunk) for chunk in chunks]

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        for plane, factor in enumerate(self._factors):
            found: Any = None
            for part, tables in enumerate(activations):
                chunk = position * self._step + part
                number = (chunk * self.vectors + vector) * len(self._factors) + plane
                value = self.micro.look_up(tables, self.indices(number))
                found = value if found is None else found + value
            acc = self.micro.add(acc, found, T.broadcast(T.int8(factor), self.size))
        return acc
