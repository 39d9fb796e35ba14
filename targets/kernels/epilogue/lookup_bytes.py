"""`Table`: codes that are looked up by bytes (AVX-512 VBMI).

vpermi2b finds 64 bytes among 128. Of 256, those beyond the last one that differs from its
neighbours are all alike, at both ends: mostly 128 remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.epilogue.staircase import BYTES
from mpqdeploy.targets.kernels.epilogue.vectors import byte

REACH = 2 * BYTES  # entries of one instruction


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is wanted of every stored byte."""

    entries: tuple[int, ...]

    @classmethod
    def of(cls, stored: NDArray[np.int64], wanted: NDArray[np.int64]) -> Table:
        """`wanted` of `stored`, all codes in order. Other bytes do not occur, and are given what
        the nearest code is."""
        every = np.clip(np.arange(256), stored[0], stored[-1]) - stored[0]
        return cls(entries=tuple(int(value) for value in wanted[every]))

    def __call__(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same by numpy, of stored bytes."""
        found: NDArray[np.int64] = np.array(self.entries)[stored]
        return found

    @property
    def first(self) -> int | None:
        """Of `REACH` entries in a row, beyond which nothing changes; None where there are more."""
        changes = np.flatnonzero(np.diff(self.entries))
        if changes.size == 0:
            return 0
        first = int(changes[0])
        return min(first, 256 - REACH) if int(changes[-1]) + 1 - first < REACH else None

    def emit(self, stored: Any) -> Any:
        """Of uint8 x 64."""
        from tvm.script.ir_builder import tirx as T

        first = self.first
        if first is None:
            low, high = (self._found(stored, start) for start in (0, REACH))
            return T.Select(stored >= byte(REACH, BYTES), high, low)
        if first > 0:
            stored = T.max(stored, byte(first, BYTES))
        if first + REACH < 256:
            stored = T.min(stored, byte(first + REACH - 1, BYTES))
        return self._found(stored, first)

    def _found(self, stored: Any, first: int) -> Any:
        """Of bytes from `first` on: their low 7 bits say which entry."""
        from tvm.script.ir_builder import tirx as T

        entries = np.roll(self.entries[first : first + REACH], first % REACH)
        parts = [
            T.Shuffle([T.uint8(int(entry)) for entry in part], list(range(BYTES)))
            for part in np.split(entries, 2)
        ]
        kind, name = f"uint8x{BYTES}", "llvm.x86.avx512.vpermi2var.qi.512"
        return T.call_llvm_pure_intrin(kind, name, parts[0], stored, parts[1])
