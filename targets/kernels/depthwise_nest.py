"""The loops of depthwise convolutions: tiles of neighbouring outputs, whose words are made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.kernels.convolution import Geometry
from mpqdeploy.targets.kernels.depthwise_micro import Micro
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.quads import CHANNELS, Order, interleaved
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.layout import Layout, stored_channels

AHEAD = 640  # lines: this layer's other constants, and a tile of the next one's weights [o]
MOST_AT_ONCE = 8

Words = Callable[[int, int], Sequence[Any]]
"""The vectors of words of a group of kernel rows, so many columns right of a tile's first input."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """`pixels` outputs of a row from (n, y, x)."""

    n: Any
    y: Any
    x: Any
    pixels: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Nest:
    """The loops, over TIR buffers.

    Vectors of `lanes` channels; with an `order`, quads of 64 channels as long as there are so many,
    and of 32 channels of two pixels. `start` and the weights lie in that order.
    """

    geometry: Geometry
    layout: Layout
    source: Any
    start: Any
    micro: Micro
    weights: Weights
    lanes: int
    order: Order | None

    def emit(self, epilogue: Any, columns: int, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, _, channels = self.geometry.shape
        order, stored = self.order or Order(0), stored_channels(channels)
        chunks, done = order.whole // CHANNELS, order.whole + order.paired
        with T.serial(0, batch) as n:
            if order.whole == stored:  # what a chunk needs stays in the first-level cache
                with T.serial(0, chunks) as chunk, share.loop(height) as y:
                    self._ahead(chunk * height + y, chunks * height)
                    for tile in self._tiles(n, y, columns):
                        self._chunk(epilogue, tile, chunk * CHANNELS)
                return
            with share.loop(height) as y:  # the parts of a row share cache lines
                self._ahead(y, height)
                if chunks:
                    with T.serial(0, chunks) as chunk:
                        for tile in self._tiles(n, y, columns):
                            self._chunk(epilogue, tile, chunk * CHANNELS)
                if order.paired:
                    for tile in self._tiles(n, y, columns):
                        self._pair(epilogue, tile, order)
                with T.serial(0, (stored - done) // self.lanes) as block:
                    for tile in self._tiles(n, y, columns):
                        self._vector(epilogue, tile, done + block * self.lanes)

    def _ahead(self, part: Any, parts: int) -> None:
        """Spreads what the next kernel needs first over the rows of this one."""
        self.weights.prefetch(part, parts, lines=min(AHEAD, MOST_AT_ONCE * parts))

    def _tiles(self, n: Any, y: Any, columns: int) -> Iterator[Tile]:
        """All tiles of a row, each kind with the loop over it open around what is emitted."""
        from tvm.script.ir_builder import tirx as T

        for x in cut(self.geometry.shape[2], columns):
            with T.serial(0, x.count) as i:
                yield Tile(n=n, y=y, x=x.start + i * x.step, pixels=x.step)

    def _vector(self, epilogue: Any, tile: Tile, channel: Any) -> None:
        """One vector of channels. All sums are bound before anything is stored."""
        from tvm.script.ir_builder import tirx as T

        words = self._words(
            lambda row, column: self._load(tile, channel, row, column, self.lanes),
            lambda rows: [T.bind(self.micro.word(rows))],
        )
        sums = [self._sums(words, column, channel) for column in range(tile.pixels)]
        with epilogue.together():
            for column, (acc,) in enumerate(sums):
                epilogue.store(acc, tile.n, tile.y, tile.x + column, channel)

    def _chunk(self, epilogue: Any, tile: Tile, channel: Any) -> None:
        """64 channels of one pixel after the other."""
        words = self._words(
            lambda row, column: self._load(tile, channel, row, column, CHANNELS), interleaved
        )
        for column in range(tile.pixels):
            sums = self._sums(words, column, channel)
            epilogue.store_quads(sums, channel, tile.n, tile.y, [tile.x + column], channel)

    def _pair(self, epilogue: Any, tile: Tile, order: Order) -> None:
        """32 channels of two pixels, which lie half a tile apart: so they share no words."""
        from tvm.script.ir_builder import tirx as T

        channel, half = order.whole, tile.pixels // 2
        if tile.pixels % 2:
            for first in range(channel, channel + order.paired, self.lanes):
                self._vector(epilogue, tile, first)
            return

        def load(row: int, column: int) -> Any:
            columns = (column, column + half * self.geometry.conv.stride[1])
            both = [self._load(tile, channel, row, at, order.paired) for at in columns]
            return T.Shuffle(both, list(range(CHANNELS)))

        words = self._words(load, interleaved)
        for column in range(half):
            sums = self._sums(words, column, order.pair)
            pixels = [tile.x + column, tile.x + column + half]
            epilogue.store_quads(sums, order.pair, tile.n, tile.y, pixels, channel)

    def _words(
        self, load: Callable[[int, int], Any], join: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Words:
        """`load`: stored bytes of a kernel row, some columns right of the tile's first input;
        `join`: makes words of those of a group of rows."""
        rows, group = self.geometry.conv.weights.shape[1], self.micro.group
        made: dict[tuple[int, int], Sequence[Any]] = {}

        def words(column: int, part: int) -> Sequence[Any]:
            if (column, part) not in made:
                kept = range(part * group, min((part + 1) * group, rows))
                made[column, part] = join([load(row, column) for row in kept])
            return made[column, part]

        return words

    def _sums(self, words: Words, column: int, position: Any) -> list[Any]:
        """The accumulators of the tile's output `column`, of channels from `position` of the order
        on: as many vectors as there are of words."""
        from tvm.script.ir_builder import tirx as T

        conv, group, lanes = self.geometry.conv, self.micro.group, self.lanes
        _, rows, width, _ = conv.weights.shape
        groups = -(-rows // group)
        taps = list(np.ndindex(width, groups))
        left = column * conv.stride[1]
        under = [words(left + kw * conv.dilation[1], part) for kw, part in taps]
        sums = []
        for number, vectors in enumerate(zip(*under, strict=True)):
            block = T.floordiv(position, lanes) + number
            start = self.start[T.ramp(block * lanes, 1, lanes)]
            index = [((block * width + kw) * groups + part) * (lanes * group) for kw, part in taps]
            terms = list(zip(vectors, index, strict=True))
            sums.append(T.bind(self.micro.accumulate(start, terms)))
        return sums

    def _load(self, tile: Tile, channel: Any, row: int, column: int, lanes: int) -> Any:
        """Stored bytes of kernel row `row`, `column` columns right of where the tile begins."""
        from tvm.script.ir_builder import tirx as T

        y, x = self.geometry.pixel(self.layout, tile.y, tile.x, row, 0)
        return self.source[tile.n, y, x + column, T.ramp(channel, 1, lanes)]
