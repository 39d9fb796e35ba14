"""Tiles of weights in memory: where products of tiles find them.

`Stored`: where the constants lie, or, where they are narrow, restored to bytes for a tile of output
channels before its first block of pixels. `AtHand`: all of a layer's, where they are few. Narrow
weights that fill vectors are restored while tiles multiply: `restoring`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.packing import Weights, is_narrow, unpacked_at_once
from mpqdeploy.targets.kernels.tiles.micro import Memory
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.restoring import Alternating, Passing
from mpqdeploy.targets.program import Grid


class TileWeights(Protocol):
    """Of a nest whose turns have `products` products each."""

    packed: Weights

    def allocate(self) -> None:
        """Scratch buffers, before the loops."""

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        """A turn on a tile of output channels, the `block`-th of it; `first`: of all here."""

    def before(self, number: Any, part: Part) -> None:
        """Before the `number`-th product of the turn, and that part of it."""

    def after(self, number: Any, part: Part) -> None:
        """Behind that product, and that part of it."""

    def at(self, number: Any, offset: Any) -> Memory:
        """The weights of that product, from byte `offset`."""


class Stored:
    """`codes`: `[output-channel tiles, codes]`, for `blocks` of pixels each."""

    def __init__(self, codes: NDArray[np.int32], grid: Grid, products: int, blocks: int) -> None:
        self.packed = Weights(codes, grid)
        self._products, self._blocks = products, blocks
        self._size = codes.shape[1] // products
        self._block: Any = None

    def allocate(self) -> None:
        self.packed.allocate()

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._block = block
        if not self.packed.scratch_bytes:
            self.packed.unpack(channels)
            return
        with T.If(T.Or(block == 0, first)), T.Then():
            self.packed.unpack(channels)

    def before(self, number: Any, part: Part) -> None:
        turn = self._block * part.rounds + part.round
        self.packed.prefetch(turn, self._blocks * part.rounds, piece=(part.number, part.count))

    def after(self, number: Any, part: Part) -> None:
        """Nothing."""

    def at(self, number: Any, offset: Any) -> Memory:
        codes, first = self.packed.codes()
        return Memory(codes, first + number * self._size + offset)


class AtHand:
    """`codes`: `[output-channel tiles, codes]`, few enough to be restored once, all of them, and to
    stay in the first-level cache: every block of pixels uses all of them."""

    def __init__(self, codes: NDArray[np.int32], grid: Grid, products: int) -> None:
        self.packed = Weights(codes.reshape(1, -1), grid)
        self._products = products
        self._size = codes.shape[1] // products
        self._first: Any = None

    def allocate(self) -> None:
        self.packed.allocate()

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._first = T.bind(channels * (self._products * self._size))
        if not self.packed.scratch_bytes:
            self.packed.unpack(0)
            return
        with T.If(first), T.Then():
            self.packed.unpack(0)

    def before(self, number: Any, part: Part) -> None:
        """Nothing: what comes behind these few are the next kernel's."""

    def after(self, number: Any, part: Part) -> None:
        """Nothing."""

    def at(self, number: Any, offset: Any) -> Memory:
        codes, first = self.packed.codes()
        return Memory(codes, first + self._first + number * self._size + offset)


def tile_weights(
    codes: NDArray[np.int32], grid: Grid, plan: Plan, blocking: Blocking
) -> TileWeights:
    """`codes`: `[output-channel tiles, codes]`."""
    blocks = blocking.blocks(plan)
    if blocking.channels_inside(plan):
        return AtHand(codes, grid, plan.products)
    if is_narrow(grid):
        at_once, uses = unpacked_at_once(grid), blocking.uses(plan)
        if uses == 1 and codes.shape[1] // plan.products % at_once == 0:
            return Passing(codes, grid, plan.products)
        if uses > 1 and codes.shape[1] % at_once == 0:
            return Alternating(codes, grid, plan.products, blocks)
    return Stored(codes, grid, plan.products, blocks)
