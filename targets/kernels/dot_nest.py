"""The loop nest that every dot-product convolution shares.

    output-channel tiles (weights restored to bytes once) > images > row tiles > column tiles
        > accumulators in registers: kernel rows > kernel columns > groups of 4 input channels

Activations are stored bytes (code - offset, border = stored zero), weights signed bytes. The exact
accumulator is sum(stored * w) - stored_zero * sum(w), so it starts at that per-channel constant and
padded taps need no special case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.layout import stored_channels

GROUP = 4  # input channels that one step multiplies and adds

Load = Callable[[int, int], Any]
Store = Callable[[Any, Any, Any, Any, Any], None]  # (acc, n, y, x, first channel)


class Micro(Protocol):
    """One way to multiply a group of 4 activations with a vector of output channels."""

    name: str
    isa: Isa
    registers: int  # accumulators that leave room for the operands

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Weights `[..., lanes, 4]` as `[..., lanes * 4]`, in the order `multiply` reads."""

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        """acc (int32 x lanes) + dot products of 4 activations and the weights of each lane.

        `word`: 4 stored bytes as an int32; `load(start, count)`: int8 weights in `order`'s order.
        """


@dataclass(frozen=True)
class Tile:
    """Accumulators held in registers: rows x columns of pixels, by vectors of output channels."""

    rows: int
    columns: int
    vectors: int

    @property
    def registers(self) -> int:
        return self.rows * self.columns * self.vectors


def tile_of(schedule: Any) -> Tile:
    return Tile(schedule["rows"], schedule["columns"], schedule["vectors"])


def channel_vectors(channels: int, lanes: int) -> int:
    """Vectors that cover the channels as they are stored: the epilogue wants all of those."""
    return -(-stored_channels(channels) // lanes)


def order_weights(weights: NDArray[np.int32], vectors: int, micro: Micro) -> NDArray[Any]:
    """`[O, KH, KW, I]` as `[tiles, codes of a tile]`, zero beyond O and I.

    A tile's codes are ordered kernel row, kernel column, group of 4 input channels, vector.
    """
    out, height, width, inputs = weights.shape
    lanes = micro.isa.lanes
    tiles = channel_vectors(out, lanes) // vectors
    groups = -(-inputs // GROUP)
    padded = np.zeros((tiles * vectors * lanes, height, width, groups * GROUP), np.int32)
    padded[:out, :, :, :inputs] = weights
    split = padded.reshape(tiles, vectors, lanes, height, width, groups, GROUP)
    ordered = micro.order(split.transpose(0, 3, 4, 5, 1, 2, 6))
    return ordered.reshape(tiles, -1)


def start_values(weights: NDArray[np.int32], zero: int, lanes: int) -> NDArray[np.int32]:
    """What the accumulators start at, `[vectors * lanes]`: -stored_zero * sum of weights."""
    channels = channel_vectors(weights.shape[0], lanes) * lanes
    start = np.zeros(channels, np.int32)
    start[: weights.shape[0]] = -zero * weights.reshape(weights.shape[0], -1).sum(axis=1)
    return start


def divisors(number: int, limit: int) -> list[int]:
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def tiles_for(geometry: Dense, lanes: int, registers: int) -> Sequence[Tile]:
    """At most four tiles that fill `registers` accumulators for this output, likely best first."""
    vectors = channel_vectors(geometry.out_channels, lanes)
    found: list[Tile] = []
    for wide in (2, 4, 1, 3):
        if vectors % wide or wide > registers:
            continue
        pixels = registers // wide
        columns = _columns(geometry.out_width, pixels)
        rows = max(1, min(geometry.out_height, pixels // columns))
        found.append(Tile(rows, columns, wide))
    if geometry.out_height * geometry.out_width == 1:
        found = [Tile(1, 1, wide) for wide in reversed(divisors(vectors, registers))]
    return found[:4]


def _columns(width: int, pixels: int) -> int:
    """The tile width up to `pixels` that wastes least: fewest tiles, then the narrowest."""
    tiles = -(-width // pixels)
    return -(-width // tiles)


class DotNest:
    """Emits the loops; its owner declares the buffers and says where accumulators go."""

    def __init__(self, geometry: Dense, tile: Tile, micro: Micro, weights: Weights) -> None:
        self.geometry = geometry
        self.tile = tile
        self.micro = micro
        self.weights = weights
        self._accs: list[Any] = []
        self._spill: Any = None

    def emit(self, source: Any, origin: tuple[int, int], start: Any, store: Store) -> None:
        """`source`: the bytes buffer; `origin`: see `Dense.origin`; `start`: `start_values`."""
        from tvm.script.ir_builder import tirx as T

        lanes, tile, geometry = self.micro.isa.lanes, self.tile, self.geometry
        self.weights.allocate()
        self._accs = [
            T.alloc_buffer((lanes,), "int32", scope="global") for _ in range(tile.registers)
        ]
        self._spill = T.alloc_buffer((tile.registers, lanes), "int32", scope="global")
        tiles = channel_vectors(geometry.out_channels, lanes) // tile.vectors
        with T.serial(0, tiles) as o:
            self.weights.unpack(o)
            with T.serial(0, geometry.batch) as n:
                for y, rows in cut(geometry.out_height, tile.rows):
                    with T.serial(0, y.count) as i:
                        for x, columns in cut(geometry.out_width, tile.columns):
                            with T.serial(0, x.count) as j:
                                at = (n, y.start + i * rows, x.start + j * columns)
                                self._block(source, origin, start, o, at, rows, columns)
                                self._flush(store, o, at, rows, columns)

    def _block(
        self,
        source: Any,
        origin: tuple[int, int],
        start: Any,
        o: Any,
        at: tuple[Any, Any, Any],
        rows: int,
        columns: int,
    ) -> None:
        """Accumulate `rows` x `columns` pixels from output pixel `at` = (n, y, x)."""
        from tvm.script.ir_builder import tirx as T

        geometry, lanes, vectors = self.geometry, self.micro.isa.lanes, self.tile.vectors
        index = T.ramp(0, 1, lanes)
        for number in range(rows * columns * vectors):
            channel = (o * vectors + number % vectors) * lanes
            T.buffer_store(self._accs[number], start[T.ramp(channel, 1, lanes)], [index])
        n, y0, x0 = at
        groups = -(-geometry.in_channels // GROUP)
        with (
            T.serial(0, geometry.kernel[0]) as kh,
            T.serial(0, geometry.kernel[1]) as kw,
            T.serial(0, groups) as g,
        ):
            offset = ((kh * geometry.kernel[1] + kw) * groups + g) * vectors
            for pixel in range(rows * columns):
                row = (y0 + pixel // columns) * geometry.stride[0] + kh * geometry.dilation[0]
                column = (x0 + pixel % columns) * geometry.stride[1] + kw * geometry.dilation[1]
                place = [n, row + origin[0], column + origin[1], T.ramp(g * GROUP, 1, GROUP)]
                word = self._existing(T.reinterpret("int32", source[tuple(place)]), g)
                for vector in range(vectors):
                    acc = self._accs[pixel * vectors + vector]
                    load = self._loader(offset + vector)
                    T.buffer_store(acc, self.micro.multiply(acc[index], word, load), [index])

    def _existing(self, word: Any, group: Any) -> Any:
        """`word` with undefined channels cleared, where weights cannot: bipolar ones are never 0."""
        from tvm.script.ir_builder import tirx as T

        groups, rest = divmod(self.geometry.in_channels, GROUP)
        if not (self.weights.grid.bipolar and rest):
            return word
        return T.bitwise_and(word, T.Select(group == groups, (1 << 8 * rest) - 1, -1))

    def _loader(self, vector: Any) -> Load:
        """Reads the weights of one vector of output channels and one group."""
        first = vector * self.micro.isa.lanes * GROUP

        def load(start: int, count: int) -> Any:
            return self.weights.load(first + start, count)

        return load

    def _flush(
        self, store: Store, o: Any, at: tuple[Any, Any, Any], rows: int, columns: int
    ) -> None:
        """Hand every accumulator to the epilogue, in a loop: its code is emitted once."""
        from tvm.script.ir_builder import tirx as T

        lanes, vectors = self.micro.isa.lanes, self.tile.vectors
        index = T.ramp(0, 1, lanes)
        for number in range(rows * columns * vectors):
            T.buffer_store(self._spill, self._accs[number][index], [number, index])
        n, y, x = at
        with T.serial(0, rows) as i, T.serial(0, columns) as j:
            for vector in range(vectors):
                acc = self._spill[(i * columns + j) * vectors + vector, index]
                store(acc, n, y + i, x + j, (o * vectors + vector) * lanes)


@dataclass(frozen=True)
class Span:
    start: int
    count: int


def cut(length: int, step: int) -> list[tuple[Span, int]]:
    """`length` as a run of whole steps and, where something is left, one shorter step."""
    whole, rest = divmod(length, step)
    spans = [(Span(0, whole), step)] if whole else []
    return spans + ([(Span(whole * step, 1), rest)] if rest else [])
