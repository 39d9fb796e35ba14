"""`RingNest`: the loops of the permute kernel, row by row.

images > rows (tables of the new input rows) > output-channel tiles > column tiles > registers

The tables of as many input rows as a kernel spans are kept, which a first-level cache holds, and
every row of them is built once. Where the indices of all output channels are few, that takes less
time than all tables first, which fill a second-level cache: 0.93 for 64 channels on 56 x 56 [o].
"""

from __future__ import annotations

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.flush import Block, Flush
from mpqdeploy.targets.kernels.nest import RegisterNest, Tile
from mpqdeploy.targets.kernels.permute.lookups import Lookups
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.spans import cut


class RingNest(RegisterNest):
    """Of tiles of one row."""

    def __init__(self, isa: Isa, tile: Tile, inner: Lookups) -> None:
        """`inner` keeps a ring of rows; ValueError where a tile has several rows."""
        if tile.rows != 1:
            raise ValueError(f"a ring serves one row of pixels at a time, not {tile.rows}")
        super().__init__(inner.geometry, isa, tile, inner)
        self._lookups = inner

    def _loops(self, origin: tuple[int, int], flush: Flush, tiles: int, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        geometry, span = self.geometry, self._lookups.span
        stride, across = geometry.stride[0], -(-geometry.out_width // self.tile.columns)
        kept = max(span - stride, 0)  # rows that the next output row needs as well
        above = share.first(geometry.out_height) * stride + origin[0]
        with T.serial(0, geometry.batch) as n:
            with T.serial(0, kept) as row:
                self._lookups.build(n, above + row)
            with share.loop(geometry.out_height) as y:
                with T.serial(kept, span) as row:
                    self._lookups.build(n, y * stride + origin[0] + row)
                with T.serial(0, tiles) as o:
                    self.inner.begin(o)
                    for x in cut(geometry.out_width, self.tile.columns):
                        with T.serial(0, x.count) as j:
                            number = (n * geometry.out_height + y) * across
                            number = number + x.start // self.tile.columns + j
                            left = x.start + j * x.step
                            block = Block(n, y, left, number, 1, x.step)
                            self._whole(origin, flush, o, block)
