"""`Groups`: the epilogue of a turn, cut into groups of pixels that are packed at once."""

from __future__ import annotations

from math import lcm
from typing import Any

from mpqdeploy.targets.kernels.flush import Outlet, Store
from mpqdeploy.targets.kernels.tiles.micro import OUT
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.resting import Resting, Turn

# Products of a turn, beside which its epilogue waits for memory: 78 us for the 400 KB that a
# shortcut of ResNet-18 writes, 43 where they are asked for. With more products it does not wait,
# and prefetches only take time: 2 % of ResNet-18 [o].
FEW = 8


class Groups:
    def __init__(
        self, plan: Plan, blocking: Blocking, resting: Resting, store: Store, outlet: Outlet
    ) -> None:
        self._resting, self._store, self._outlet = resting, store, outlet
        self._vectors = blocking.vectors
        self._asks = plan.products <= FEW
        together = lcm(self._vectors, outlet.at_once) // self._vectors
        self._pixels = min(together, resting.pixels)
        self._per_run = -(-resting.pixels // self._pixels)
        self.count = resting.runs * self._per_run

    def part(self, turn: Turn, following: Turn, part: Part) -> None:
        """The groups that follow a product. What the following turn will store is asked for."""
        from tvm.script.ir_builder import tirx as T

        for number, certain in part.of(self.count):
            if certain:
                self._group(turn, following, number)
            else:
                with T.If(number < self.count), T.Then():
                    self._group(turn, following, number)

    def _group(self, turn: Turn, following: Turn, number: Any) -> None:
        self.emit(turn, number)
        if self._asks:
            self._prefetch(following, number)

    def emit(self, turn: Turn, number: Any) -> None:
        """Stores the `number`-th group."""
        run, start, (y, x) = self._place(turn, number)
        with self._outlet.together():
            for pixel in range(self._pixels):
                for vector in range(self._vectors):
                    channel = (turn.channels * self._vectors + vector) * OUT
                    sums = self._resting.sums(turn, run, start + pixel, vector)
                    self._store(sums, turn.image, y, x + start + pixel, channel)

    def _prefetch(self, turn: Turn, number: Any) -> None:
        _, start, (y, x) = self._place(turn, number)
        channels = self._vectors * OUT
        for pixel in range(self._pixels):
            column = x + start + pixel
            self._outlet.prefetch(turn.image, y, column, turn.channels * channels, channels)

    def _place(self, turn: Turn, number: Any) -> tuple[Any, Any, tuple[Any, Any]]:
        """Of a group: its run of pixels, its first pixel in that, and where the run is."""
        from tvm.script.ir_builder import tirx as T

        run, start = number // self._per_run, number % self._per_run * self._pixels
        if self._resting.pixels % self._pixels:
            start = T.min(start, self._resting.pixels - self._pixels)
        return run, start, self._resting.output(turn, run)
