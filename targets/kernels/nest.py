"""The loop nest that convolutions with accumulators in registers share.

output-channel tiles > parts of the input channels (weights made ready once) > images > row tiles
    > column tiles > accumulators in registers: kernel rows > kernel columns > groups of channels

Where there are several parts, the sums of a tile's pixels rest in scratch between them: a part's
weights then stay in the first-level cache while all blocks of pixels use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush, Outlet, Store
from mpqdeploy.targets.kernels.following import Following
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.register_tiles import (
    Chances,
    Level,
    Tile,
    blocks,
    channel_vectors,
)
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.kernels.spans import cut

# A few steps of products cost no more than putting their sums down and picking them up: 0.92 to
# 0.94 of the time with 16 and 24 input channels of a 1x1 kernel, nothing from 32 on [o].
SHORT = 6


class Inner(Protocol):
    """The arithmetic of a nest: what one group of input channels adds to the accumulators."""

    parts: int  # of the input channels: their weights are made ready one after the other
    groups: int  # groups of input channels per tap and part
    apart: int  # the last of them, of which no loop is made: `fetch` is given their numbers as ints

    def allocate(self) -> None:
        """Scratch buffers, before the loops."""

    def begin(self, part: Any) -> None:
        """Make the weights of a part ready; parts count through all output-channel tiles."""

    def start(self, channel: Any) -> Any:
        """What the accumulators of the channels from `channel` start at."""

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        """Activations of one group at (n, row, column) of the input buffer."""

    def ahead(self, level: Level, number: Any) -> None:
        """A chance to prefetch the next part's weights: before every block of pixels, before every
        tap of it, and at every step, numbered through all blocks of the part."""

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        """acc + activations * weights; `position` counts a part's taps and groups, `vector` the
        tile's."""


class RegisterNest:
    """Emits the loops; its owner declares the buffers and says where accumulators go."""

    def __init__(self, geometry: Dense, isa: Isa, tile: Tile, inner: Inner) -> None:
        self.geometry = geometry
        self.lanes = isa.lanes
        self.tile = tile
        self.inner = inner
        self._accs: list[Any] = []
        self._sums: Any = None
        self._following: Following | None = None

    def emit(
        self,
        origin: tuple[int, int],
        store: Store,
        outlet: Outlet,
        share: Share = WHOLE,
        following: Following | None = None,
    ) -> None:
        """`origin`: see `Dense.origin`. `store` takes the sums to `outlet`."""
        self._following = following
        from tvm.script.ir_builder import tirx as T

        lanes, tile, parts = self.lanes, self.tile, self.inner.parts
        self.inner.allocate()
        # One buffer per vector: LLVM keeps these in registers, and does not with one for all.
        self._accs = [
            T.alloc_buffer((lanes,), "int32", scope="global") for _ in range(tile.registers)
        ]
        resting = 1 if parts == 1 else blocks(self.geometry, tile)
        self._sums = T.alloc_buffer((resting, tile.registers, lanes), "int32", scope="global")
        steps = self.geometry.taps * self.inner.groups
        flush = Flush(
            vectors=tile.vectors,
            lanes=lanes,
            sums=self._sums,
            store=store,
            outlet=outlet,
            unrolled=parts == 1 and steps <= SHORT,
        )
        self._loops(origin, flush, share)

    def _loops(self, origin: tuple[int, int], flush: Flush, share: Share) -> None:
        over_tiles, over_rows = self._divided(share, flush.outlet.unit)
        with over_tiles.loop(self._tiles) as o:
            if self.inner.parts == 1:
                self._at_once(origin, flush, o, over_rows)
            else:
                self._in_parts(origin, flush, o, over_rows)

    def _at_once(self, origin: tuple[int, int], flush: Flush, o: Any, over_rows: Share) -> None:
        self.inner.begin(o)
        for block in self._blocks(over_rows):
            self._whole(origin, flush, o, block)

    def _whole(self, origin: tuple[int, int], flush: Flush, o: Any, block: Block) -> None:
        """A block of pixels of output-channel tile `o`, from its first product to its codes."""
        self._start(o, block)
        self._accumulate(origin, block, o, 0)
        self._rest(block, 0)
        flush.emit(o, block, 0)

    def _in_parts(self, origin: tuple[int, int], flush: Flush, o: Any, over_rows: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        for block in self._blocks(over_rows):
            self._start(o, block)
            self._rest(block, block.number)
        with T.serial(0, self.inner.parts) as part:
            self.inner.begin(o * self.inner.parts + part)
            for block in self._blocks(over_rows):
                self._resume(block, block.number)
                self._accumulate(origin, block, o, part)
                self._rest(block, block.number)
        for block in self._blocks(over_rows):
            flush.emit(o, block, block.number)

    def _divided(self, share: Share, unit: int) -> tuple[Share, Share]:
        """The shares of the tiles of output channels, and of the rows: one of them is whole.

        Tiles, so that no weights are read twice, unless rows divide more evenly.
        """
        rows = -(-self.geometry.out_height // self.tile.rows)
        apart = self.tile.vectors * self.lanes % unit == 0
        if apart and share.evenness(self._tiles) >= share.evenness(rows):
            return share, WHOLE
        return WHOLE, share

    def _blocks(self, over_rows: Share) -> Iterator[Block]:
        """All blocks of pixels, each kind with the loops over it open around what is emitted."""
        from tvm.script.ir_builder import tirx as T

        tile, geometry = self.tile, self.geometry
        down, across = -(-geometry.out_height // tile.rows), -(-geometry.out_width // tile.columns)
        with T.serial(0, geometry.batch) as n:
            for y in cut(geometry.out_height, tile.rows):
                with over_rows.loop(y.count) as i:
                    row = (n * down + y.start // tile.rows + i) * across
                    for x in cut(geometry.out_width, tile.columns):
                        with T.serial(0, x.count) as j:
                            number = row + x.start // tile.columns + j
                            top, left = y.start + i * y.step, x.start + j * x.step
                            yield Block(n, top, left, number, y.step, x.step)

    def _start(self, o: Any, block: Block) -> None:
        from tvm.script.ir_builder import tirx as T

        vectors = self.tile.vectors
        for number in range(block.pixels * vectors):
            channel = (o * vectors + number % vectors) * self.lanes
            T.buffer_store(self._accs[number], self.inner.start(channel), [self._index])

    def _accumulate(self, origin: tuple[int, int], block: Block, o: Any, part: Any) -> None:
        """Add the products of a part's groups to the accumulators."""
        from tvm.script.ir_builder import tirx as T

        geometry, groups = self.geometry, self.inner.groups
        first, whole = part * groups, o * self.inner.parts + part
        self._ahead("block", whole, block.number)
        with T.serial(0, geometry.kernel[0]) as kh, T.serial(0, geometry.kernel[1]) as kw:
            tap = kh * geometry.kernel[1] + kw

            def activations(group: Any, y: Any, x: Any) -> Any:
                row = y * geometry.stride[0] + kh * geometry.dilation[0]
                column = x * geometry.stride[1] + kw * geometry.dilation[1]
                place = (block.n, row + origin[0], column + origin[1])
                return self.inner.fetch(place, first + group)

            for g in self._steps(block, whole, tap):
                self._add(block, tap * groups + g, partial(activations, g))

    def _add(self, block: Block, position: Any, activations: Callable[[Any, Any], Any]) -> None:
        """Add the products of one step to the accumulators of all of the block's pixels, of which
        `activations` are at (y, x); `position`: see `Inner.add`."""
        from tvm.script.ir_builder import tirx as T

        vectors = self.tile.vectors
        for pixel in range(block.pixels):
            row, column = divmod(pixel, block.columns)
            fetched = activations(block.y + row, block.x + column)
            for vector in range(vectors):
                acc = self._accs[pixel * vectors + vector]
                total = self.inner.add(acc[self._index], fetched, position, vector)
                T.buffer_store(acc, total, [self._index])

    def _steps(self, block: Block, part: Any, tap: Any) -> Iterator[Any]:
        """A tap's groups in the order of `Inner.ahead`, with the loop open around what is
        emitted."""
        from tvm.script.ir_builder import tirx as T

        taps, groups, apart = self.geometry.taps, self.inner.groups, self.inner.apart
        first = (block.number * taps + tap) * groups
        self._ahead("tap", part, block.number * taps + tap)
        if apart < groups:
            with T.serial(0, groups - apart) as g:
                self._ahead("step", part, first + g)
                yield g
        for last in range(groups - apart, groups):
            self._ahead("step", part, first + last)
            yield last

    def _ahead(self, level: Level, part: Any, number: Any) -> None:
        """A chance for the kernel's own weights, and for what follows all of them: the `number`-th
        of a part, which are numbered through all tiles of output channels."""
        self.inner.ahead(level, number)
        lines = self._following.lines if self._following else 0
        if level == self._chances.level(-(-lines // (self._tiles * self.inner.parts))):
            self._ask(level, part, number)

    def _ask(self, level: Level, part: Any, number: Any) -> None:
        """Ask for the share of what follows that this chance of all parts' has."""
        if self._following is not None:
            every, parts = self._chances.count(level), self._tiles * self.inner.parts
            self._following.ask(part * every + number, parts * every)

    @property
    def _tiles(self) -> int:
        return channel_vectors(self.geometry.out_channels, self.lanes) // self.tile.vectors

    @property
    def _chances(self) -> Chances:
        """Of a part."""
        served = blocks(self.geometry, self.tile)
        return Chances(served, self.geometry.taps, self.inner.groups)

    def _rest(self, block: Block, slot: Any) -> None:
        """Put the accumulators into a slot of scratch."""
        from tvm.script.ir_builder import tirx as T

        for number in range(block.pixels * self.tile.vectors):
            value = self._accs[number][self._index]
            T.buffer_store(self._sums, value, [slot, number, self._index])

    def _resume(self, block: Block, slot: Any) -> None:
        """Take the accumulators back from a slot of scratch."""
        from tvm.script.ir_builder import tirx as T

        for number in range(block.pixels * self.tile.vectors):
            value = self._sums[slot, number, self._index]
            T.buffer_store(self._accs[number], value, [self._index])

    @property
    def _index(self) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.ramp(0, 1, self.lanes)
