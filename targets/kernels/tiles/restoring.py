"""Narrow weights, restored to bytes while tiles multiply: vectors have little else to do then."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.packing import VECTOR_BYTES, Weights, unpacked_at_once
from mpqdeploy.targets.kernels.tiles.micro import Memory
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.program import Grid

AHEAD = 8  # products, whose weights are asked for: a shared cache answers after some 100 ns
# Products, whose weights are restored: what is stored can be loaded once all that stands before it
# has been executed, and products take long to be.
EARLY = 3


class Passing:
    """Each tile of output channels, `codes`: `[tiles, codes]`, is used once, by a single block of
    pixels, as behind a network's last stride.

    A few products are restored ahead, which never leave the first-level cache: half the time of
    restoring a tile at a time, and of bytes that come from a shared cache as they are [o].
    """

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

    def after(self, number: Any, part: Part) -> None:
        self._product(self._first + number + EARLY)

    def _product(self, number: Any) -> None:
        """The weights of a product, counted through all turns; behind the last, those again."""
        from tvm.script.ir_builder import tirx as T

        slot = T.bind(T.floormod(number, EARLY + 1) * self._size)
        units = self._size // self._at_once
        first = T.bind(T.min(number, self._all - 1) * units)
        for unit in range(units):
            restore(self.packed, first + unit, self._scratch, slot + unit * self._at_once)

    def at(self, number: Any, offset: Any) -> Memory:
        from tvm.script.ir_builder import tirx as T

        slot = T.floormod(self._first + number, EARLY + 1)
        return Memory(self._scratch, slot * self._size + offset)


class Alternating:
    """Each tile of output channels, `codes`: `[tiles, codes]`, serves `blocks` blocks of pixels, or
    one in several passes.

    While it does, the next one is restored, to the other one of two places.
    """

    def __init__(self, codes: NDArray[np.int32], grid: Grid, products: int, blocks: int) -> None:
        self.packed = Weights(codes.reshape(1, -1), grid, in_registers=True, lift=False)
        self._at_once = unpacked_at_once(grid)
        self._tiles, self._length = codes.shape
        self._size = self._length // products
        self._units = self._length // self._at_once
        self._each = -(-self._units // blocks)  # that a turn restores
        self._scratch: Any = None
        self._here: Any = None
        self._there: Any = None
        self._next: Any = None
        self._done: Any = None
        self._end: Any = None

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        self.packed.unpack(0)
        self._scratch = T.alloc_buffer((2 * self._length,), "int8", scope="global")

    def begin(self, channels: Any, block: Any, first: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._here = T.bind(T.floormod(channels, 2) * self._length)
        self._there = T.bind(self._length - self._here)
        self._next = T.bind((channels + 1) * self._units)
        self._done = T.bind(block * self._each)
        # Of the next tile; behind the last one there is none.
        self._end = T.bind(T.Select(channels + 1 < self._tiles, self._units, 0))
        with T.If(first), T.Then():
            with T.serial(0, self._units) as unit:
                place = self._here + unit * self._at_once
                restore(self.packed, self._next - self._units + unit, self._scratch, place)
            with T.serial(0, T.min(self._done, self._end)) as unit:  # what turns before would have
                self._ahead(unit)

    def before(self, number: Any, part: Part) -> None:
        """Those that the next turn restores are asked for."""
        for unit, _ in part.of(self._each):
            self.packed.prefetch_units(self._next + self._done + self._each + unit, 1)

    def after(self, number: Any, part: Part) -> None:
        from tvm.script.ir_builder import tirx as T

        for number_in_turn, _ in part.of(self._each):
            unit = T.bind(self._done + number_in_turn)
            with T.If(unit < self._end), T.Then():
                self._ahead(unit)

    def _ahead(self, unit: Any) -> None:
        place = self._there + unit * self._at_once
        restore(self.packed, self._next + unit, self._scratch, place)

    def at(self, number: Any, offset: Any) -> Memory:
        return Memory(self._scratch, self._here + number * self._size + offset)


def restore(packed: Weights, unit: Any, target: Any, place: Any) -> None:
    """Restore a unit of packed codes to `place` of the buffer `target`."""
    from tvm.script.ir_builder import tirx as T

    for code in range(0, unpacked_at_once(packed.grid), VECTOR_BYTES):
        codes = packed.load_unit(unit, code, VECTOR_BYTES)
        codes = T.reinterpret(f"int8x{VECTOR_BYTES}", codes)
        T.buffer_store(target, codes, [T.ramp(place + code, 1, VECTOR_BYTES)])
