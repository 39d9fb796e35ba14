"""The loops of the table-lookup convolution.

    images > rows (tables of the new input rows) > column tiles > output-channel tiles
        > byte accumulators in registers: kernel rows > kernel columns > groups of 4 channels

A lookup adds 16 output channels x 4 input channels for every pixel of a vector: 256 one-bit
products in one shuffle and one addition. Bytes are flushed into 16-bit accumulators before they can
overflow: even bytes hold output channels 0..7, odd ones 8..15 of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Outlet, Store, together
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.lookup_build import (
    GROUP,
    TABLE,
    pixels_per_vector,
    repeat,
    shuffle,
)
from mpqdeploy.targets.kernels.lookup_tables import TableRows
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.program import Grid

NIBBLES = Grid(bits=GROUP, signed=False)  # one bit of four weights, packed as one number


def plane_factors(grid: Grid) -> tuple[int, ...]:
    """What a set bit of every weight plane adds. Bipolar weights are one plane of signs."""
    if grid.bipolar:
        return (1,)
    factors = [1 << k for k in range(grid.bits)]
    if grid.signed:
        factors[-1] = -factors[-1]
    return tuple(factors)


def weight_planes(
    weights: NDArray[np.int32], grid: Grid, outputs: int, inputs: int
) -> NDArray[np.int32]:
    """`[O, KH, KW, I]` as bits `[planes, outputs, KH, KW, inputs]`: missing channels are ones for
    bipolar weights, whose activations must read as 0 there, else zeros."""
    out, height, width, present = weights.shape
    fill = 1 if grid.bipolar else 0
    padded = np.full((outputs, height, width, inputs), fill, np.int32)
    padded[:out, :, :, :present] = weights
    stored = (padded > 0).astype(np.int32) if grid.bipolar else padded
    return np.stack([stored >> k & 1 for k in range(len(plane_factors(grid)))])


def order_nibbles(weights: NDArray[np.int32], grid: Grid, blocks: int) -> NDArray[np.int32]:
    """`[O, KH, KW, I]` as nibbles `[tiles, codes]`, bit i of a nibble from input channel 4 g + i.

    A tile's order: kernel row, kernel column, group, block of 16 output channels, plane, channel;
    within a block channels 0, 8, 1, 9, ... Missing channels are ones for bipolar weights (their
    activations read as 0), else zeros.
    """
    out, height, width, inputs = weights.shape
    tiles = -(-out // (TABLE * blocks))
    chunked = -(-inputs // 16) * 16
    planes = weight_planes(weights, grid, tiles * blocks * TABLE, chunked)
    split = planes.reshape(len(planes), tiles, blocks, 2, TABLE // 2, height, width, -1, GROUP)
    nibbles: NDArray[np.int32] = (split << np.arange(GROUP)).sum(axis=-1, dtype=np.int32)
    # from plane, tile, block, half, channel, kh, kw, group
    #   to tile, kh, kw, group, block, plane, channel, half
    return nibbles.transpose(1, 5, 6, 7, 2, 0, 4, 3).reshape(tiles, -1)


@dataclass(frozen=True)
class LookupTile:
    """Byte accumulators held in registers: vectors of pixels by blocks of 16 output channels."""

    vectors: int
    blocks: int


class LookupNest:
    """Emits the loops; its owner declares the buffers and says where accumulators go."""

    def __init__(
        self,
        geometry: Dense,
        isa: Isa,
        tile: LookupTile,
        weights: NDArray[np.int32],
        grid: Grid,
        largest: int,
    ) -> None:
        """`largest`: bound of a stored activation; of the form 2^k - 1 for bipolar weights."""
        self.geometry = geometry
        self.isa = isa
        self.tile = tile
        self.factors = plane_factors(grid)
        self.weights = Weights(order_nibbles(weights, grid, tile.blocks).reshape(1, -1), NIBBLES)
        self.rows = TableRows(geometry=geometry, isa=isa, largest=largest, signs=grid.bipolar)
        self._flush_depth, self._run = flush_plan(self._trips, 255 // (GROUP * largest))
        self._bytes: list[Any] = []
        self._words: list[Any] = []
        self._spill: Any = None

    @property
    def _trips(self) -> tuple[int, int, int]:
        return (*self.geometry.kernel, self.rows.groups)

    @property
    def _wide(self) -> int:
        return pixels_per_vector(self.isa)

    def emit(
        self,
        source: Any,
        origin: tuple[int, int],
        start: Any,
        store: Store,
        outlet: Outlet,
        share: Share,
    ) -> None:
        """`source`: the bytes buffer; `origin`: see `Dense.origin`; `start`: what is added to the
        sums of lookups, per output channel; `store` takes these to `outlet`."""
        from tvm.script.ir_builder import tirx as T

        geometry, tile = self.geometry, self.tile
        self._allocate()
        tables = T.alloc_buffer(self.rows.shape, "uint8", scope="global")
        self.weights.unpack(0)
        channels = -(-geometry.out_channels // (TABLE * tile.blocks))
        kept = max(self.rows.span - geometry.stride[0], 0)  # rows that the next output row reuses
        above = share.first(geometry.out_height) * geometry.stride[0]
        with T.serial(0, geometry.batch) as n:
            with T.serial(0, kept) as row:
                self.rows.build(source, tables, n, above + row, origin)
            with share.loop(geometry.out_height) as y:
                with T.serial(kept, self.rows.span) as row:
                    first = y * geometry.stride[0]
                    self.rows.build(source, tables, n, first + row, origin)
                for span in cut(geometry.out_width, tile.vectors * self._wide):
                    with T.serial(0, span.count) as j, T.serial(0, channels) as o:
                        x = span.start + j * span.step
                        self._block(tables, o, y, x, -(-span.step // self._wide))
                        for pixel in together(outlet, span.step, tile.blocks):
                            self._flush(start, store, o, (n, y, x), pixel)

    def _allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        size, count = self._wide * TABLE, self.tile.vectors * self.tile.blocks
        self.weights.allocate()
        self._bytes = [
            T.alloc_buffer((size,), "uint8", scope="global")
            for _ in range(count * len(self.factors))
        ]
        self._words = [
            T.alloc_buffer((size // 2,), "uint16", scope="global") for _ in range(count * 2)
        ]
        self._spill = T.alloc_buffer((count * 2, size // 2), "uint16", scope="global")

    def _block(self, tables: Any, o: Any, y: Any, x: Any, vectors: int) -> None:
        """Accumulate `vectors` vectors of pixels from output pixel (y, x) into the spill buffer."""
        from tvm.script.ir_builder import tirx as T

        used = vectors * self.tile.blocks
        half = self._wide * TABLE // 2
        for words in self._words[: used * 2]:
            T.buffer_store(words, T.broadcast(T.uint16(0), half), [T.ramp(0, 1, half)])
        self._nest(tables, o, y, x, vectors, 0, ())
        for number, words in enumerate(self._words[: used * 2]):
            index = T.ramp(0, 1, half)
            T.buffer_store(self._spill, words[index], [number, index])

    def _nest(
        self, tables: Any, o: Any, y: Any, x: Any, vectors: int, depth: int, at: tuple[Any, ...]
    ) -> None:
        """The reduction loops from `depth` on; bytes start and are flushed at `_flush_depth`."""
        from tvm.script.ir_builder import tirx as T

        used = vectors * self.tile.blocks
        if depth == self._flush_depth:
            size = self._wide * TABLE
            for acc in self._bytes[: used * len(self.factors)]:
                T.buffer_store(acc, T.broadcast(T.uint8(0), size), [T.ramp(0, 1, size)])
        if depth == 4:
            kh, kw, outer, inner = at
            self._lookups(tables, o, (y, x), (kh, kw, outer * self._run + inner), vectors)
        else:
            trips = (*self._trips[:2], self._trips[2] // self._run, self._run)
            with T.serial(0, trips[depth]) as i:
                self._nest(tables, o, y, x, vectors, depth + 1, (*at, i))
        if depth == self._flush_depth:
            self._flush_bytes(used)

    def _lookups(
        self, tables: Any, o: Any, at: tuple[Any, Any], tap: tuple[Any, Any, Any], vectors: int
    ) -> None:
        """One group of 4 channels of one tap, for every pixel and output channel of the tile."""
        from tvm.script.ir_builder import tirx as T

        geometry, blocks, planes = self.geometry, self.tile.blocks, len(self.factors)
        (y, x), (kh, kw, group), size = at, tap, self._wide * TABLE
        ring = (y * geometry.stride[0] + kh * geometry.dilation[0]) % self.rows.span
        column = kw * geometry.dilation[1]
        phase, shift = column % geometry.stride[1], column // geometry.stride[1]
        taps, (_, width, groups) = geometry.taps, self._trips
        step = (o * taps * groups + (kh * width + kw) * groups + group) * blocks
        for vector in range(vectors):
            first = (x + vector * self._wide + shift) * TABLE
            table = tables[ring, phase, group, T.ramp(first, 1, size)]
            for block in range(blocks):
                for plane in range(planes):
                    codes = self.weights.load(((step + block) * planes + plane) * TABLE, TABLE)
                    index = repeat(self.isa, T.reinterpret("uint8x16", codes))
                    acc = self._bytes[(vector * blocks + block) * planes + plane]
                    total = acc[T.ramp(0, 1, size)] + shuffle(self.isa, table, index)
                    T.buffer_store(acc, total, [T.ramp(0, 1, size)])

    def _flush_bytes(self, used: int) -> None:
        """Add even and odd bytes, times their plane's factor, to the 16-bit accumulators."""
        from tvm.script.ir_builder import tirx as T

        half = self._wide * TABLE // 2
        index = T.ramp(0, 1, half)
        for number in range(used):
            for plane, factor in enumerate(self.factors):
                acc = self._bytes[number * len(self.factors) + plane]
                pairs = T.reinterpret(f"uint16x{half}", acc[T.ramp(0, 1, 2 * half)])
                even = T.bitwise_and(pairs, T.broadcast(T.uint16(0xFF), half))
                odd = T.shift_right(pairs, T.broadcast(T.uint16(8), half))
                for parity, value in enumerate((even, odd)):
                    words = self._words[number * 2 + parity]
                    scaled = value * T.broadcast(T.uint16(factor % 65536), half)
                    T.buffer_store(words, words[index] + scaled, [index])

    def _flush(
        self, start: Any, store: Store, o: Any, at: tuple[Any, Any, Any], pixel: Any
    ) -> None:
        """Hand the sums of one pixel to the epilogue."""
        from tvm.script.ir_builder import tirx as T

        n, y, x = at
        lanes, blocks = self.isa.lanes, self.tile.blocks
        word = "int16" if len(self.factors) > 1 or self.factors[0] < 0 else "uint16"
        vector, lane = T.floordiv(pixel, self._wide), T.floormod(pixel, self._wide)
        index = T.ramp(lane * 8, 1, 8)
        for block in range(blocks):
            number = (vector * blocks + block) * 2
            halves = [self._spill[number + parity, index] for parity in range(2)]
            if lanes == TABLE:
                halves = [T.Shuffle(halves, list(range(TABLE)))]
            for part, value in enumerate(halves):
                channel = (o * blocks + block) * TABLE + part * lanes
                wide = T.cast(T.reinterpret(f"{word}x{lanes}", value), f"int32x{lanes}")
                store(start[T.ramp(channel, 1, lanes)] + wide, n, y, x + pixel, channel)


def flush_plan(trips: tuple[int, int, int], limit: int) -> tuple[int, int]:
    """Loop depth at which bytes are flushed so that at most `limit` lookups precede it, and the
    groups per run: 0 after everything, 1 after a kernel row, 2 a tap, 3 a run of groups."""
    rows, columns, groups = trips
    for depth, lookups in enumerate((rows * columns * groups, columns * groups, groups)):
        if lookups <= limit:
            return depth, groups
    return 3, max(run for run in range(1, limit + 1) if groups % run == 0)
