"""`Lookups`: the arithmetic of the permute kernel, as the `Inner` of a `RegisterNest`.

Of every pixel there are tables, 64 bytes for every 4 groups of neighbouring channels: those of all
pixels are built first, or of some rows at a time (`ring`). An index is restored for every output
channel and group from weights that are packed at their width, where all are few at once, else by
tiles of output channels: what is read next is in a cache then.
`Sets` and `Mirrored` are two ways to do so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.packing import Weights, unpacked_at_once
from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    TABLES,
    Bytes,
    Micro,
)
from mpqdeploy.targets.kernels.permute.tables import Tables
from mpqdeploy.targets.kernels.register_tiles import Chances, Level, Tile, blocks
from mpqdeploy.targets.program import Grid

RING_INDICES = 128 << 10  # bytes of all indices: each output row reads all of them

Place = tuple[Any, Any, Any]  # image, row and column in the input buffer


class Lookups(ABC):
    """What both share. A nest goes through `geometry`, a tap of it in `groups` steps."""

    parts = 1
    apart = 0
    lift = 0  # log2 of the factor by which accumulators are larger than the sums
    geometry: Dense
    groups: int
    unit: int  # of groups: see `Tables`

    def __init__(
        self,
        micro: Micro,
        tile: Tile,
        codes: NDArray[np.int32],
        grid: Grid,
        *,
        channels: int,
        group: int,
        tables: tuple[int, int],
    ) -> None:
        """`codes`: `[output-channel tiles, codes]`, indices as they are packed, on `grid`, in the
        order in which they are used; `channels`: of the input; `group`: those of a table;
        `tables`: bytes of a pixel's tables, those that fill whole vectors and those that are
        left."""
        self.micro = micro
        self.vectors = tile.vectors
        self.size = micro.isa.lanes * GROUPS  # bytes of a vector of indices
        missing = -codes.shape[1] % unpacked_at_once(grid)
        padded = np.pad(codes, ((0, 0), (0, missing)))
        self.weights = Weights(padded, grid, in_registers=True)
        self._tiles = len(padded)
        self._blocks = blocks(self.geometry, tile)
        few = padded.size <= RING_INDICES
        # Whether tables of some rows are kept: see `ring`.
        self.ring = tile.rows == 1 and few and self.parts == 1
        self._channels = channels
        self._group = group
        self._pitch, self._left = tables
        self._first: Any = 0  # of the scratch of indices: where the current tile's begin
        self._source: Any = None
        self._start: Any = None
        self._tables: Any = None
        self._indices: Any = None

    @abstractmethod
    def term(self, value: Any, bit: int) -> Any:
        """What channels, `value`, add to entries, by the bit of an entry's number that stands for
        them."""

    @abstractmethod
    def index(self, codes: Any, number: Any) -> Any:
        """The `number`-th vector of indices, of the codes that are packed for them."""

    @abstractmethod
    def fetch(self, place: Place, group: Any) -> Any: ...

    @abstractmethod
    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any: ...

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the bytes buffer; `start`: what accumulators start at, per output channel."""
        self._source, self._start = source, start

    @property
    def span(self) -> int:
        """Input rows that an output row needs."""
        return (self.geometry.kernel[0] - 1) * self.geometry.dilation[0] + 1

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        images, height, width = (int(extent) for extent in self._source.shape[:3])
        rows, tiles = images * height, 1
        if self.ring:
            rows, tiles = self.span, self._tiles
        self._tables = T.alloc_buffer((rows * self._row_bytes(width),), "uint8", scope="global")
        self._indices = T.alloc_buffer((tiles * self.weights.length,), "uint8", scope="global")
        if self.ring:
            with T.serial(0, tiles) as tile:
                self._restore(tile)
        else:
            with T.serial(0, images) as n, T.serial(0, height) as y:
                self.build(n, y)

    def build(self, n: Any, y: Any) -> None:
        """The tables of a row of the input buffer."""
        from tvm.script.ir_builder import tirx as T

        tables = Tables(self.micro, self._channels, self._group, self.unit, self.term)
        with T.serial(0, int(self._source.shape[2])) as x:
            place = (n, y, x)
            left = self.left(place, 0) if self._left else None
            tables.build(Bytes(self._source, place, 0), self.tables(place, 0), left)

    def _restore(self, tile: Any) -> None:
        """The indices of a tile of output channels."""
        from tvm.script.ir_builder import tirx as T

        self.weights.unpack(tile)
        self._first = tile * self.weights.length if self.ring else 0
        unit = unpacked_at_once(self.weights.grid)
        with T.serial(0, self.weights.length // unit) as i:
            for code in range(0, unit, self.size):
                codes = self.weights.load_unit(i, code, self.size)
                number = i * (unit // self.size) + code // self.size
                found = self.index(T.reinterpret(f"uint8x{self.size}", codes), number)
                T.buffer_store(self._indices, found, [self._at(number)])

    def tables(self, place: Place, number: Any) -> Bytes:
        """The `number`-th vector of tables, from a pixel's first on: those of a row's pixels follow
        each other without a gap, and each is a cache line."""
        return self._of_row(place, place[2] * self._pitch + number * TABLES)

    def left(self, place: Place, number: Any) -> Bytes:
        """The `number`-th vector of those that fill no vector in their pixel."""
        width = int(self._source.shape[2])
        return self._of_row(place, width * self._pitch + place[2] * self._left + number * TABLES)

    def _of_row(self, place: Place, number: Any) -> Bytes:
        """The tables of the place's row, from the `number`-th byte on."""
        from tvm.script.ir_builder import tirx as T

        _, height, width = (int(extent) for extent in self._source.shape[:3])
        n, y, _ = place
        row = T.floormod(y, self.span) if self.ring else n * height + y
        return Bytes(self._tables, (), row * self._row_bytes(width) + number)

    def _row_bytes(self, width: int) -> int:
        """Of a row of tables: whole ones, those that are left, and behind these what is of no use
        in the last vector of them."""
        left = -(-width * self._left // TABLES) * TABLES + TABLES
        return width * self._pitch + (left if self._left else 0)

    def begin(self, part: Any) -> None:
        if self.ring:
            self._first = part * self.weights.length
        else:
            self._restore(part)

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return self._start[T.ramp(channel, 1, self.micro.isa.lanes)]

    def ahead(self, level: Level, number: Any) -> None:
        """Spreads what the next tile's indices are restored from over this tile."""
        chances = Chances(self._blocks, self.geometry.taps, self.groups)
        if not self.ring and level == chances.level(self.weights.lines):
            self.weights.prefetch(number, chances.count(level))

    def indices(self, number: Any) -> Any:
        """The `number`-th vector of restored indices."""
        return self._indices[self._at(number)]

    def _at(self, number: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.ramp(self._first + number * self.size, 1, self.size)
