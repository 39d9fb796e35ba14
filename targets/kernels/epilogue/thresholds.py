"""`Thresholds`: codes of few values, counted by comparisons of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.epilogue.staircase import BYTES
from mpqdeploy.targets.kernels.epilogue.vectors import byte

MOST = 3  # thresholds, of two operations each: a staircase takes ten


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """`least`, and one more for every threshold that a stored code reaches."""

    least: int
    thresholds: tuple[int, ...]

    @classmethod
    def of(cls, stored: NDArray[np.int64], wanted: NDArray[np.int64]) -> Thresholds | None:
        """Those that make `wanted` of `stored`, all codes in order; None where they would be many,
        or where what is wanted falls anywhere."""
        steps = np.diff(wanted)
        if (steps < 0).any() or not 0 < wanted[-1] - wanted[0] <= MOST:
            return None
        reached = np.repeat(stored[1:], steps)
        return cls(least=int(wanted[0]), thresholds=tuple(int(code) for code in reached))

    def __call__(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same by numpy, of stored bytes."""
        reached = [(stored >= each).astype(np.int64) for each in self.thresholds]
        found: NDArray[np.int64] = self.least + np.sum(reached, axis=0)
        return found

    def emit(self, stored: Any) -> Any:
        """Of uint8 x 64."""
        from tvm.script.ir_builder import tirx as T

        total = byte(self.least, BYTES) if self.least else None
        for threshold in self.thresholds:
            one = T.Select(stored >= byte(threshold, BYTES), byte(1, BYTES), byte(0, BYTES))
            total = one if total is None else total + one
        return total
