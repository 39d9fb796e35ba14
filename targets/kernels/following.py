"""`Following`: what a network reads next, asked for while a kernel computes.

A layer of one pixel takes the time in which its weights arrive: 45 us for the 512 KB of a last
layer whose products take 7 [o]. They come faster where the layers before ask for them, of which
one with many pixels has time to spare. A network's constants lie in the order of its steps
(`passes/chain.py`): what comes next begins behind a kernel's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.kernels.prefetch import LINE, prefetch_line

AHEAD = "ahead"  # the key of a schedule: lines behind a kernel's constants that it asks for


@dataclass(frozen=True, eq=False)
class Following:
    """`lines` behind `buffer`, one of the kernel's constants, of one dimension."""

    lines: int
    buffer: Any

    @classmethod
    def of(cls, schedule: Schedule, buffer: Any) -> Following | None:
        """What the schedule asks for, if anything."""
        lines = schedule.get(AHEAD, 0)
        return cls(lines, buffer) if lines else None

    def ask(self, chance: Any, chances: int) -> None:
        """Emits the `chance`-th (a TIR expression) of `chances` shares. A prefetch never faults."""
        from tvm.script.ir_builder import tirx as T

        if chances >= self.lines:
            self._line(T.floordiv(chance, chances // self.lines))
            return
        each = -(-self.lines // chances)
        for more in range(each):
            self._line(chance * each + more)

    def _line(self, number: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        size, width = int(self.buffer.shape[0]), LINE // np.dtype(str(self.buffer.dtype)).itemsize
        prefetch_line(self.buffer[size + T.min(number, self.lines - 1) * width])
