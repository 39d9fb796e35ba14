"""From accumulators to the epilogue: what a nest hands over, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import lcm
from typing import Any, Protocol

from mpqdeploy.targets.kernels.spans import cut

Store = Callable[[Any, Any, Any, Any, Any], None]  # (acc, n, y, x, first channel)


class Outlet(Protocol):
    """What a nest asks of the epilogue besides `Store`: see `Epilogue`."""

    @property
    def unit(self) -> int: ...
    @property
    def at_once(self) -> int: ...
    def together(self) -> AbstractContextManager[None]: ...
    def prefetch(self, n: Any, y: Any, x: Any, c0: Any, channels: int) -> None: ...


def together(outlet: Outlet, pixels: int, vectors: int, *, unrolled: bool = False) -> Iterator[Any]:
    """Every one of neighbouring pixels, of `vectors` vectors of channels each: in loops, in which
    as many are stored together as the outlet packs at once."""
    from tvm.script.ir_builder import tirx as T

    loop = T.unroll if unrolled else T.serial
    for span in cut(pixels, lcm(vectors, outlet.at_once) // vectors):
        with loop(0, span.count) as i, outlet.together():
            for pixel in range(span.step):
                yield span.start + i * span.step + pixel


@dataclass(frozen=True)
class Block:
    """Pixels that are accumulated at once: `rows` x `columns` from output pixel (n, y, x), all of
    them TIR expressions, as is the block's `number` among all."""

    n: Any
    y: Any
    x: Any
    number: Any
    rows: int
    columns: int

    @property
    def pixels(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Flush:
    """Hands the sums of a block to the epilogue, in a loop so that its code is emitted once.

    `vectors`: of output channels, per pixel; `sums`: the buffer `[slots, pixels * vectors, lanes]`
    where they rest. `unrolled`: no loop, so that they stay in registers as far as these go."""

    vectors: int
    lanes: int
    sums: Any
    store: Store
    outlet: Outlet
    unrolled: bool = False

    def emit(self, o: Any, block: Block, slot: Any) -> None:
        """The block's sums in `slot`, of output-channel tile `o`."""
        from tvm.script.ir_builder import tirx as T

        loop = T.unroll if self.unrolled else T.serial
        columns = (block.columns, self.vectors)
        with loop(0, block.rows) as i:
            for column in together(self.outlet, *columns, unrolled=self.unrolled):
                self._pixel(o, block, slot, i, column)

    def _pixel(self, o: Any, block: Block, slot: Any, row: Any, column: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        vectors, index = self.vectors, T.ramp(0, 1, self.lanes)
        for vector in range(vectors):
            number = (row * block.columns + column) * vectors + vector
            channel = (o * vectors + vector) * self.lanes
            acc = self.sums[slot, number, index]
            self.store(acc, block.n, block.y + row, block.x + column, channel)


def lowered(store: Store, shift: int, lanes: int) -> Store:
    """`store` for accumulators that are multiples of 2 ** shift: divides them, exactly."""
    from tvm.script.ir_builder import tirx as T

    def divided(acc: Any, n: Any, y: Any, x: Any, channel: Any) -> None:
        store(T.shift_right(acc, T.broadcast(T.int32(shift), lanes)), n, y, x, channel)

    return divided if shift else store
