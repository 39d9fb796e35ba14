"""`Lookups`: the arithmetic of the permute kernel, as the `Inner` of a `RegisterNest`.

Tables of all pixels are built first, 64 bytes for every 4 groups of neighbouring channels, and an
index is restored for every output channel and group from weights that are packed at their width.
`Sets` and `Mirrored` are two ways to do so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.flush import Store
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import Level
from mpqdeploy.targets.kernels.packing import Weights, unpacked_at_once
from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    TABLES,
    Bytes,
    Micro,
    splat,
    table_numbers,
)
from mpqdeploy.targets.layout import stored_channels
from mpqdeploy.targets.program import Grid

MOST_PICKED = 32  # bytes of a pixel that a vector of tables is picked from

Place = tuple[Any, Any, Any]  # image, row and column in the input buffer


class Lookups(ABC):
    """What both share. A nest goes through `geometry`, a tap of it in `groups` steps."""

    parts = 1  # indices are restored once for all
    geometry: Dense
    groups: int

    def __init__(
        self,
        micro: Micro,
        vectors: int,
        codes: NDArray[np.int32],
        grid: Grid,
        *,
        channels: int,
        group: int,
        pitch: int,
    ) -> None:
        """`codes`: indices as they are packed, on `grid`, in the order in which they are used;
        `channels`: of the input; `group`: those of a table; `pitch`: bytes of a pixel's tables."""
        self.micro = micro
        self.vectors = vectors
        self.size = micro.isa.lanes * GROUPS  # bytes of a vector of indices
        missing = -codes.size % unpacked_at_once(grid)
        self.weights = Weights(np.pad(codes, (0, missing))[None], grid, in_registers=True)
        self.tile: Any = None
        self._channels = channels
        self._group = group
        self._pitch = pitch
        self._source: Any = None
        self._start: Any = None
        self._tables: Any = None
        self._indices: Any = None

    @abstractmethod
    def term(self, value: Any, i: int) -> Any:
        """What the i-th channels of groups, `value`, add to every entry of their tables."""

    @abstractmethod
    def index(self, codes: Any, number: Any) -> Any:
        """The `number`-th vector of indices, of the codes that are packed for them."""

    @abstractmethod
    def fetch(self, place: Place, group: Any) -> Any: ...

    @abstractmethod
    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any: ...

    def finished(self, store: Store) -> Store:
        """What takes the sums of a nest to `store`."""
        return store

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the bytes buffer; `start`: what accumulators start at, per output channel."""
        self._source, self._start = source, start

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        images, height, width = (int(extent) for extent in self._source.shape[:3])
        size = images * height * width * self._pitch + TABLES
        self._tables = T.alloc_buffer((size,), "uint8", scope="global")
        self._indices = T.alloc_buffer((self.weights.length,), "uint8", scope="global")
        self.weights.unpack(0)
        self._restore()
        with T.serial(0, images) as n, T.serial(0, height) as y, T.serial(0, width) as x:
            self._build((n, y, x))

    def _restore(self) -> None:
        from tvm.script.ir_builder import tirx as T

        unit = unpacked_at_once(self.weights.grid)
        with T.serial(0, self.weights.length // unit) as i:
            for code in range(0, unit, self.size):
                codes = self.weights.load_unit(i, code, self.size)
                number = i * (unit // self.size) + code // self.size
                found = self.index(T.reinterpret(f"uint8x{self.size}", codes), number)
                T.buffer_store(self._indices, found, [self._at(number)])

    def _build(self, place: Place) -> None:
        """The tables of a pixel. What a vector of them has behind the last one is of no use, and
        overwritten by the next pixel's where these follow without a gap."""
        from tvm.script.ir_builder import tirx as T

        each, stored = self._group * GROUPS, stored_channels(self._channels)
        count = min(stored, MOST_PICKED)
        # In a loop as far as a vector's channels, and the bytes they are picked from, are there.
        whole = max(0, (self._channels - max(count, each)) // each + 1)
        with T.serial(0, whole) as chunk:
            pixel = Bytes(self._source, place, chunk * each)
            self._store(place, chunk, self._sums(pixel, count, 0, each))
        for chunk in range(whole, -(-self._channels // each)):
            first = min(chunk * each, stored - count)
            pixel = Bytes(self._source, place, first)
            behind, present = chunk * each - first, self._channels - chunk * each
            self._store(place, chunk, self._sums(pixel, count, behind, present))

    def _sums(self, pixel: Bytes, count: int, behind: int, present: int) -> Any:
        """A vector of tables, whose first channel is the `behind`-th of `count` bytes; those from
        the `present`-th on are none, and cleared."""
        from tvm.script.ir_builder import tirx as T

        total: Any = None
        for i in range(self._group):
            channel = table_numbers() * splat(self._group) + splat(i)
            value = self.micro.pick(pixel, count, channel + splat(behind))
            if present < self._group * GROUPS:
                value = T.Select(channel < splat(present), value, splat(0))
            value = self.term(value, i)
            total = value if total is None else total + value
        return total

    def _store(self, place: Place, number: Any, tables: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        first = self.tables(place, number).first
        T.buffer_store(self._tables, tables, [T.ramp(first, 1, TABLES)])

    def tables(self, place: Place, number: Any) -> Bytes:
        """The `number`-th vector of tables, from a pixel's first on."""
        _, height, width = (int(extent) for extent in self._source.shape[:3])
        n, y, x = place
        pixel = (n * height + y) * width + x
        return Bytes(self._tables, (), pixel * self._pitch + number * TABLES)

    def begin(self, tile: Any) -> None:
        self.tile = tile

    def step(self, position: Any) -> Any:
        """The number of a step, through all tiles, from its `position` in this one."""
        return self.tile * (self.geometry.taps * self.groups) + position

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return self._start[T.ramp(channel, 1, self.micro.isa.lanes)]

    def ahead(self, level: Level, number: Any) -> None:  # noqa: B027
        """Indices were restored a moment ago: they are in a cache."""

    def indices(self, number: Any) -> Any:
        """The `number`-th vector of restored indices."""
        return self._indices[self._at(number)]

    def _at(self, number: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.ramp(number * self.size, 1, self.size)
