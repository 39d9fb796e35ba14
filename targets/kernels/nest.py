"""The loop nest that convolutions with accumulators in registers share.

output-channel tiles (weights made ready once) > images > row tiles > column tiles
    > accumulators in registers: kernel rows > kernel columns > groups of input channels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.layout import stored_channels

Store = Callable[[Any, Any, Any, Any, Any], None]  # (acc, n, y, x, first channel)


@dataclass(frozen=True)
class Tile:
    """Accumulators held in registers: rows x columns of pixels, by vectors of output channels."""

    rows: int
    columns: int
    vectors: int

    @property
    def registers(self) -> int:
        return self.rows * self.columns * self.vectors


class Inner(Protocol):
    """The arithmetic of a nest: what one group of input channels adds to the accumulators."""

    groups: int  # groups of input channels per tap

    def allocate(self) -> None:
        """Scratch buffers, before the loops."""

    def begin(self, tile: Any) -> None:
        """Make the weights of an output-channel tile ready."""

    def start(self, channel: Any) -> Any:
        """What the accumulators of the channels from `channel` start at."""

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        """Activations of one group at (n, row, column) of the input buffer."""

    def ahead(self, position: Any, block: Any) -> None:
        """Once per position and block of pixels: a chance to prefetch the next tile's weights."""

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        """acc + activations * weights; `position` counts taps and groups, `vector` the tile's."""


def channel_vectors(channels: int, lanes: int) -> int:
    """Vectors that cover the channels as they are stored: the epilogue wants all of those."""
    return -(-stored_channels(channels) // lanes)


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


def blocks(geometry: Dense, tile: Tile) -> int:
    """Blocks of pixels that a tile of output channels is computed in."""
    rows, columns = -(-geometry.out_height // tile.rows), -(-geometry.out_width // tile.columns)
    return geometry.batch * rows * columns


def _columns(width: int, pixels: int) -> int:
    """The tile width up to `pixels` that wastes least: fewest tiles, then the narrowest."""
    tiles = -(-width // pixels)
    return -(-width // tiles)


class RegisterNest:
    """Emits the loops; its owner declares the buffers and says where accumulators go."""

    def __init__(self, geometry: Dense, isa: Isa, tile: Tile, inner: Inner) -> None:
        self.geometry = geometry
        self.lanes = isa.lanes
        self.tile = tile
        self.inner = inner
        self._accs: list[Any] = []
        self._spill: Any = None

    def emit(
        self, origin: tuple[int, int], store: Store, share: Share = WHOLE, unit: int = 1
    ) -> None:
        """`origin`: see `Dense.origin`. Of `share`, `unit` is how many neighbouring channels must
        be stored by one thread."""
        from tvm.script.ir_builder import tirx as T

        lanes, tile, geometry = self.lanes, self.tile, self.geometry
        self.inner.allocate()
        # One buffer per vector: LLVM keeps these in registers, and does not with one for all.
        self._accs = [
            T.alloc_buffer((lanes,), "int32", scope="global") for _ in range(tile.registers)
        ]
        self._spill = T.alloc_buffer((tile.registers, lanes), "int32", scope="global")
        tiles = channel_vectors(geometry.out_channels, lanes) // tile.vectors
        over_tiles, over_rows = self._divided(share, tiles, unit)
        with over_tiles.loop(tiles) as o:
            self.inner.begin(o)
            with T.serial(0, geometry.batch) as n:
                across = -(-geometry.out_width // tile.columns)
                for y, rows in cut(geometry.out_height, tile.rows):
                    with over_rows.loop(y.count) as i:
                        row = (y.start // tile.rows + i) * across
                        for x, columns in cut(geometry.out_width, tile.columns):
                            with T.serial(0, x.count) as j:
                                at = (n, y.start + i * rows, x.start + j * columns)
                                block = row + x.start // tile.columns + j
                                self._block(origin, o, at, block, rows, columns)
                                self._flush(store, o, at, rows, columns)

    def _divided(self, share: Share, tiles: int, unit: int) -> tuple[Share, Share]:
        """The shares of the tiles of output channels, and of the rows: one of them is whole.

        Tiles, so that no weights are read twice, unless rows divide more evenly.
        """
        rows = -(-self.geometry.out_height // self.tile.rows)
        apart = self.tile.vectors * self.lanes % unit == 0
        if apart and share.evenness(tiles) >= share.evenness(rows):
            return share, WHOLE
        return WHOLE, share

    def _block(
        self,
        origin: tuple[int, int],
        o: Any,
        at: tuple[Any, Any, Any],
        block: Any,
        rows: int,
        columns: int,
    ) -> None:
        """Accumulate `rows` x `columns` pixels from output pixel `at` = (n, y, x), the image's
        `block`-th block."""
        from tvm.script.ir_builder import tirx as T

        geometry, vectors, groups = self.geometry, self.tile.vectors, self.inner.groups
        index = T.ramp(0, 1, self.lanes)
        for number in range(rows * columns * vectors):
            channel = (o * vectors + number % vectors) * self.lanes
            T.buffer_store(self._accs[number], self.inner.start(channel), [index])
        n, y0, x0 = at
        with (
            T.serial(0, geometry.kernel[0]) as kh,
            T.serial(0, geometry.kernel[1]) as kw,
            T.serial(0, groups) as g,
        ):
            position = (kh * geometry.kernel[1] + kw) * groups + g
            self.inner.ahead(position, block)
            for pixel in range(rows * columns):
                row = (y0 + pixel // columns) * geometry.stride[0] + kh * geometry.dilation[0]
                column = (x0 + pixel % columns) * geometry.stride[1] + kw * geometry.dilation[1]
                place = (n, row + origin[0], column + origin[1])
                activations = self.inner.fetch(place, g)
                for vector in range(vectors):
                    acc = self._accs[pixel * vectors + vector]
                    total = self.inner.add(acc[index], activations, position, vector)
                    T.buffer_store(acc, total, [index])

    def _flush(
        self, store: Store, o: Any, at: tuple[Any, Any, Any], rows: int, columns: int
    ) -> None:
        """Hand every accumulator to the epilogue, in a loop: its code is emitted once."""
        from tvm.script.ir_builder import tirx as T

        lanes, vectors = self.lanes, self.tile.vectors
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
