"""`RingNest`: the loops of the permute kernel, row by row.

images > rows (tables of the new input rows) > output-channel tiles > column tiles > registers

The tables of as many input rows as a kernel spans are kept, which a first-level cache holds, and
every row of them is built once. Where the indices of all output channels are few, that takes less
time than all tables first, which fill a second-level cache: 0.93 for 64 channels on 56 x 56 [o].
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.permute.lookups import Lookups
from mpqdeploy.targets.kernels.register_tiles import Tile
from mpqdeploy.targets.kernels.row_nest import RowNest
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.program import Pool


class RingNest(RowNest):
    """Of tiles of one row."""

    def __init__(self, isa: Isa, tile: Tile, inner: Lookups, pool: Pool | None = None) -> None:
        """`inner` keeps a ring of rows; ValueError where a tile has several rows."""
        if tile.rows != 1:
            raise ValueError(f"a ring serves one row of pixels at a time, not {tile.rows}")
        super().__init__(inner.geometry, isa, tile, inner, pool)
        self._lookups = inner
        self._stride = inner.geometry.stride[0]
        self._kept = max(inner.span - self._stride, 0)  # rows that the next one needs as well

    def _before_rows(self, n: Any, origin: tuple[int, int], share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        above = share.first(self.geometry.out_height) * self._stride + origin[0]
        with T.serial(0, self._kept) as row:
            self._lookups.build(n, above + row)

    def _before_row(self, n: Any, origin: tuple[int, int], y: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        with T.serial(self._kept, self._lookups.span) as row:
            self._lookups.build(n, y * self._stride + origin[0] + row)
