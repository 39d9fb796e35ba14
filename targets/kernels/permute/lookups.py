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
from mpqdeploy.targets.kernels.permute.micro import GROUPS, TABLES, Bytes, Micro
from mpqdeploy.targets.layout import stored_channels
from mpqdeploy.targets.program import Grid

MOST_PICKED = 32  # bytes of a pixel that a table is picked from


class Lookups(ABC):
    """`geometry`: what the nest goes through; `groups`: steps of a tap of it."""

    parts = 1  # indices are restored once for all

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        vectors: int,
        codes: NDArray[np.int32],
        grid: Grid,
        groups: int,
    ) -> None:
        """`codes`: indices as they are packed, on `grid`, in the order in which they are used."""
        self.geometry = geometry
        self.groups = groups
        self.micro = micro
        self.vectors = vectors
        self.size = micro.isa.lanes * GROUPS  # bytes of a vector of indices
        missing = -codes.size % unpacked_at_once(grid)
        self.weights = Weights(np.pad(codes, (0, missing))[None], grid, in_registers=True)
        self.source: Any = None
        self.tile: Any = None
        self._start: Any = None
        self._indices: Any = None

    @abstractmethod
    def build(self) -> None:
        """All tables, in scratch."""

    @abstractmethod
    def index(self, codes: Any, number: Any) -> Any:
        """The `number`-th vector of indices, of the codes that are packed for them."""

    def finished(self, store: Store) -> Store:
        """What takes the sums of a nest to `store`."""
        return store

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the bytes buffer; `start`: what accumulators start at, per output channel."""
        self.source, self._start = source, start

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        self._indices = T.alloc_buffer((self.weights.length,), "uint8", scope="global")
        self.weights.unpack(0)
        unit = unpacked_at_once(self.weights.grid)
        with T.serial(0, self.weights.length // unit) as i:
            for code in range(0, unit, self.size):
                codes = self.weights.load_unit(i, code, self.size)
                number = i * (unit // self.size) + code // self.size
                found = self.index(T.reinterpret(f"uint8x{self.size}", codes), number)
                T.buffer_store(self._indices, found, [self._at(number)])
        self.build()

    def picked(self, place: tuple[Any, Any, Any], channel: Any, places: Any) -> Any:
        """`TABLES` bytes of a pixel: of its channels, from `channel` on, those at `places`."""
        from tvm.script.ir_builder import tirx as T

        stored = stored_channels(int(self.source.shape[3]))
        count = MOST_PICKED if stored >= MOST_PICKED else stored
        first = T.min(channel, stored - count)  # nothing behind the last pixel is read
        beyond = T.broadcast(T.cast(channel - first, "uint8"), TABLES)
        return self.micro.pick(Bytes(self.source, place, first), count, places + beyond)

    def begin(self, tile: Any) -> None:
        self.tile = tile

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
