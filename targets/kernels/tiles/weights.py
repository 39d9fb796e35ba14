"""Tiles of weights in memory: where products of tiles find them.

`Stored`: where the constants lie, or, where they are narrow, restored to bytes for a tile of output
channels before its first block of pixels. `AtHand`: all of a layer's, where they are few.
`Passing`: narrow weights that a single block of pixels uses once, as behind a network's last
stride. They are restored a few products ahead, by vectors while tiles multiply, and never leave the
first-level cache: half the time of `Stored`, and of bytes that come from a shared cache as they
are [o].
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.packing import VECTOR_BYTES, Weights, code_bits, unpacked_at_once
from mpqdeploy.targets.kernels.storable import STORED_BITS
from mpqdeploy.targets.kernels.tiles.micro import Memory
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.program import Grid

AHEAD = 8  # products, whose weights are asked for: a shared cache answers after some 100 ns
# Products, whose weights are restored: what is stored can be loaded once all that stands before it
# has been executed, and products take long to be.
EARLY = 3


class TileWeights(Protocol):
    """Of a nest whose turns have `products` products each."""

    packed: Weights

    def allocate(self) -> None:
        """Scratch buffers, before the loops."""

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        """A turn on a tile of output channels, the `block`-th of it; `first`: of all here."""

    def before(self, number: Any, part: Part) -> None:
        """Before the `number`-th product of the turn, and that part of it."""

    def after(self, number: Any) -> None:
        """Behind that product."""

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

    def after(self, number: Any) -> None:
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

    def after(self, number: Any) -> None:
        """Nothing."""

    def at(self, number: Any, offset: Any) -> Memory:
        codes, first = self.packed.codes()
        return Memory(codes, first + self._first + number * self._size + offset)


class Passing:
    """`codes`: `[output-channel tiles, codes]`, each for one block of pixels."""

    def __init__(self, codes: NDArray[np.int32], grid: Grid, products: int) -> None:
        self.packed = Weights(codes.reshape(1, -1), grid, in_registers=True, lift=False)
        self._at_once = unpacked_at_once(grid)
        self._products = products
        self._size = codes.shape[1] // products
        self._all = codes.size // self._size
        self._first: Any = None
        self._scratch: Any = None

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        self.packed.unpack(0)
        self._scratch = T.alloc_buffer(((EARLY + 1) * self._size,), "int8", scope="global")

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._first = T.bind(channels * self._products)
        with T.If(first), T.Then(), T.serial(0, EARLY) as number:
            self._product(self._first + number)

    def before(self, number: Any, part: Part) -> None:
        from tvm.script.ir_builder import tirx as T

        units = self._size // self._at_once
        place = T.min(self._first + number + AHEAD, self._all - 1)
        self.packed.prefetch_units(place * units, units)

    def after(self, number: Any) -> None:
        self._product(self._first + number + EARLY)

    def _product(self, number: Any) -> None:
        """The weights of a product, counted through all turns; behind the last, those again."""
        from tvm.script.ir_builder import tirx as T

        slot = T.bind(T.floormod(number, EARLY + 1) * self._size)
        units = self._size // self._at_once
        first = T.bind(T.min(number, self._all - 1) * units)
        for unit in range(units):
            for code in range(0, self._at_once, VECTOR_BYTES):
                codes = self.packed.load_unit(first + unit, code, VECTOR_BYTES)
                at = T.ramp(slot + unit * self._at_once + code, 1, VECTOR_BYTES)
                codes = T.reinterpret(f"int8x{VECTOR_BYTES}", codes)
                T.buffer_store(self._scratch, codes, [at])

    def at(self, number: Any, offset: Any) -> Memory:
        from tvm.script.ir_builder import tirx as T

        slot = T.floormod(self._first + number, EARLY + 1)
        return Memory(self._scratch, slot * self._size + offset)


def tile_weights(
    codes: NDArray[np.int32], grid: Grid, plan: Plan, blocking: Blocking
) -> TileWeights:
    """`codes`: `[output-channel tiles, codes]`."""
    blocks = blocking.blocks(plan)
    if blocking.channels_inside(plan):
        return AtHand(codes, grid, plan.products)
    whole = codes.shape[1] // plan.products % unpacked_at_once(grid) == 0  # products fill vectors
    once = blocks == blocking.passes(plan) == 1
    if once and code_bits(grid) < STORED_BITS and whole:
        return Passing(codes, grid, plan.products)
    return Stored(codes, grid, plan.products, blocks)
