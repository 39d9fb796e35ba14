"""`Resting`: the scratch where the sums of two turns rest, those of one while those of the next are
made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.tiles.micro import BYTES, OUT, ROWS, Memory
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan


@dataclass(frozen=True)
class Turn:
    """A tile of output channels for a block of pixels: TIR expressions."""

    channels: Any  # which tile of output channels
    block: Any  # which block of pixels
    image: Any
    first: Any  # its first pixel tile in the image
    half: Any  # of the scratch


def place(plan: Plan, tile: Any) -> tuple[Any, Any]:
    """Row and column of a tile's first pixel; `tile`: its number in the image."""
    from tvm.script.ir_builder import tirx as T

    if plan.across == 1:
        return tile, 0
    row, column = T.floordiv(tile, plan.across), T.floormod(tile, plan.across) * plan.columns
    last = plan.length - plan.columns
    return row, column if plan.length % plan.columns == 0 else T.min(column, last)


class Resting:
    """Runs of output pixels (pixel tiles, or image rows), of `blocking.vectors` vectors each."""

    def __init__(self, plan: Plan, blocking: Blocking) -> None:
        self._plan = plan
        self._vectors = blocking.vectors
        tiles = plan.pitch is None
        self.runs = blocking.pixels if tiles else plan.geometry.out_height
        self.pixels = plan.columns if tiles else plan.geometry.out_width
        """of a run that are stored"""
        self._length = ROWS if plan.pitch is None else plan.pitch
        self._sums: Any = None

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        shape = (2, self.runs, self._length * self._vectors, OUT)
        self._sums = T.alloc_buffer(shape, "int32", scope="global")

    def tile(self, turn: Turn, k: int, tile: Any, vector: int) -> tuple[Memory, int]:
        """Where the sums of a block's k-th tile, `tile` of the image, are put, and the bytes from
        one pixel to the next."""
        start = turn.half * (self.runs * self._length)
        inside = k * self._length if self._plan.pitch is None else place(self._plan, tile)[1]
        first = ((start + inside) * self._vectors + vector) * BYTES
        return Memory(self._sums, first), self._vectors * BYTES

    def sums(self, turn: Turn, run: Any, pixel: Any, vector: int) -> Any:
        """A pixel's sums of a vector of output channels."""
        from tvm.script.ir_builder import tirx as T

        return self._sums[turn.half, run, pixel * self._vectors + vector, T.ramp(0, 1, OUT)]

    def output(self, turn: Turn, run: Any) -> tuple[Any, Any]:
        """Row and column of a run's first pixel."""
        return place(self._plan, turn.first + run) if self._plan.pitch is None else (run, 0)
