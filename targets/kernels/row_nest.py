"""`RowNest`: a `RegisterNest` whose tiles of output channels are inside of its rows.

images > row tiles > output-channel tiles > column tiles > accumulators in registers

A row of pixels is written once, with all of its channels, and read once. With tiles outside, every
tile writes its part of all lines: 1.2 MB for 96 channels on 112 x 112, which no cache of a core
holds from one tile to the next. That all weights are used for every row costs nothing where a
first-level cache holds them.
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import Inner, RegisterNest
from mpqdeploy.targets.kernels.pooled_sums import PooledSums
from mpqdeploy.targets.kernels.register_tiles import Tile
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.program import Pool


class RowNest(RegisterNest):
    """Of an `Inner` of one part, whose `begin` only says which tile is meant.

    `pool`: whose maxima are taken of the sums, see `pools_sums`.
    """

    def __init__(
        self, geometry: Dense, isa: Isa, tile: Tile, inner: Inner, pool: Pool | None = None
    ) -> None:
        super().__init__(geometry, isa, tile, inner)
        self._pooled = PooledSums(pool, geometry, tile, isa.lanes) if pool else None

    def _loops(self, origin: tuple[int, int], flush: Flush, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        geometry, tile = self.geometry, self.tile
        down, across = -(-geometry.out_height // tile.rows), -(-geometry.out_width // tile.columns)
        pooled = self._pooled
        if pooled:
            pooled.allocate()
        with T.serial(0, geometry.batch) as n:
            self._before_rows(n, origin, share)
            if pooled:
                pooled.begin_image()
            for y in cut(geometry.out_height, tile.rows):
                with share.loop(y.count) as i:
                    top, row = y.start + i * y.step, (n * down + y.start // tile.rows + i) * across
                    self._before_row(n, origin, top)
                    if pooled:
                        pooled.begin_rows()
                    with T.serial(0, self._tiles) as o:
                        self.inner.begin(o)
                        for x in cut(geometry.out_width, tile.columns):
                            with T.serial(0, x.count) as j:
                                number = row + x.start // tile.columns + j
                                left = x.start + j * x.step
                                block = Block(n, top, left, number, y.step, x.step)
                                self._whole(origin, flush, o, block)

    def _whole(self, origin: tuple[int, int], flush: Flush, o: Any, block: Block) -> None:
        if self._pooled is None:
            super()._whole(origin, flush, o, block)
            return
        self._start(o, block)
        self._accumulate(origin, block, o, 0)
        self._pooled.take(self._accs, flush, o, block)

    def _before_rows(self, n: Any, origin: tuple[int, int], share: Share) -> None:
        """Before an image's first row."""

    def _before_row(self, n: Any, origin: tuple[int, int], y: Any) -> None:
        """Before the tile of rows from output row `y` on."""
