"""`Staircase`: codes that follow from others by a multiplication of 16 bits.

Where integers of 16 bits climb the same stairs as a float that is scaled and rounded, they do so
for 64 codes in ten operations [o].
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.epilogue.vectors import byte

WORD_BITS, BYTE_BITS = 16, 8
WORD = 1 << WORD_BITS
NEIGHBOURS = 4  # factors to either side of the nearest one that are tried, too
BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """min(max(stored * factor / 2^8 + offset, 0) / 2^shift, high), both divisions rounding down.

    Every step fits 16 bits: `factor` < 2^16, sums saturate, and `high` < 2^(16 - shift) <= 2^8.
    """

    factor: int
    offset: int
    shift: int
    high: int

    def __call__(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same by numpy, of stored bytes."""
        raised = np.clip((stored * self.factor >> BYTE_BITS) + self.offset, 0, WORD - 1)
        climbed: NDArray[np.int64] = np.minimum(raised >> self.shift, self.high)
        return climbed

    def emit(self, stored: Any) -> Any:
        """Of uint8 x 64, in order: bytes at even and at odd places as the high bytes of words."""
        from tvm.script.ir_builder import tirx as T

        half = BYTES // 2
        pairs = T.reinterpret(f"uint16x{half}", stored)
        eight = T.broadcast(T.uint16(BYTE_BITS), half)
        even = self._climbed(T.shift_left(pairs, eight))
        odd = self._climbed(T.bitwise_and(pairs, T.broadcast(T.uint16(0xFF00), half)))
        climbed = T.reinterpret(f"uint8x{BYTES}", T.bitwise_or(even, T.shift_left(odd, eight)))
        most = (WORD - 1) >> self.shift
        limit = byte(self.high, BYTES)
        return T.min(climbed, limit) if self.high < most else climbed

    def _climbed(self, words: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        def splat(value: int) -> Any:
            return T.broadcast(T.uint16(value), BYTES // 2)

        kind = f"uint16x{BYTES // 2}"
        name = "llvm.x86.avx512.pmulhu.w.512"
        raised = T.call_llvm_pure_intrin(kind, name, words, splat(self.factor))
        saturating = "uadd" if self.offset >= 0 else "usub"
        name = f"llvm.{saturating}.sat.v{BYTES // 2}i16"
        raised = T.call_llvm_pure_intrin(kind, name, raised, splat(abs(self.offset)))
        return T.shift_right(raised, splat(self.shift))


def fitted(
    stored: NDArray[np.int64], wanted: NDArray[np.int64], slope: float, high: int
) -> Staircase | None:
    """The staircase that is `wanted` at `stored`; None where there is none.

    `slope`: of what was rounded, per stored code; `high` bounds `wanted`.
    """
    if slope <= 0:
        return None
    shift = min(WORD_BITS - high.bit_length(), floor(log2((WORD - 1) / slope)) - BYTE_BITS)
    if shift < BYTE_BITS:
        return None
    nearest = round(slope * (1 << (shift + BYTE_BITS)))
    for step in range(2 * NEIGHBOURS + 1):  # 0, 1, -1, 2, -2, ...
        factor = nearest + (step + 1) // 2 * (1 if step % 2 else -1)
        found = _with_factor(factor, shift, stored, wanted, high)
        if found is not None:
            return found
    return None


def _with_factor(
    factor: int, shift: int, stored: NDArray[np.int64], wanted: NDArray[np.int64], high: int
) -> Staircase | None:
    """Every step bounds the offset; at the lowest and at the highest, saturation helps."""
    if not 0 < factor < WORD:
        return None
    raised = stored * factor >> BYTE_BITS
    least = int((wanted * (1 << shift) - raised)[wanted > 0].max(initial=1 - WORD))
    most = int(((wanted + 1) * (1 << shift) - 1 - raised)[wanted < high].min(initial=WORD - 1))
    if least > most:
        return None
    offset = max(min((least + most) // 2, WORD - 1), 1 - WORD)
    found = Staircase(factor=factor, offset=offset, shift=shift, high=high)
    return found if (found(stored) == wanted).all() else None
