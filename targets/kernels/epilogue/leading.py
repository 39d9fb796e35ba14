"""Codes that follow from other codes: a second output in fewer bits, computed on bytes.

A residual stream is rounded to its own width, and once more to the next layer's grid. The second
code is a function of the first, which is computed for 64 codes at a time, whether the first one is
written as well or not: by comparisons, where it has few values; else from a table, where the CPU
has one; else by a staircase.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.epilogue.lookup_bytes import Table
from mpqdeploy.targets.kernels.epilogue.staircase import Staircase, fitted
from mpqdeploy.targets.kernels.epilogue.thresholds import Thresholds
from mpqdeploy.targets.layout import storage_offset
from mpqdeploy.targets.program import Affine, Clip, Expr, Floats, Quant
from mpqdeploy.targets.reference import evaluate

Way = Staircase | Thresholds | Table


def beneath(expr: Expr) -> Quant | None:
    """The codes on which `expr` depends and on nothing else; None where there are none."""
    under = bottom(expr)
    return under if isinstance(under, Quant) else None


def bottom(expr: Expr) -> Expr | None:
    """What the codes `expr` are scaled, clipped and rounded from."""
    under = expr.x if isinstance(expr, Quant) else None
    while isinstance(under, Affine | Clip):
        under = under.x
    return under


def leads(
    first: Quant, second: Quant, leaf: Expr | None = None, *, tables: bool = False
) -> Way | None:
    """From the stored codes of `first`, which lie beneath `second` as `leaf` (itself unless given),
    to those of `second`; None where channels differ, or no way is exactly it.

    `tables`: whether the CPU looks bytes up (AVX-512 VBMI)."""
    if second.rounding != "ROUND" or second.grid.bipolar:
        return None
    codes = np.arange(first.grid.low, first.grid.high + 1)
    by_channel = of_codes(second.x, leaf or first, codes)
    before = by_channel[:, 0]
    if (by_channel != before[:, None]).any():
        return None
    wanted = np.clip(np.rint(before), second.grid.low, second.grid.high).astype(np.int64)
    stored, wanted = codes - storage_offset(first.grid), wanted - storage_offset(second.grid)
    few = Thresholds.of(stored, wanted)
    if few is not None:
        return few
    if tables:
        return Table.of(stored, wanted)
    slope = float(np.diff(before).max(initial=0.0))
    return fitted(stored, wanted, slope, second.grid.high - storage_offset(second.grid))


def of_codes(expr: Expr, leaf: Expr, codes: NDArray[np.int64]) -> Floats:
    """`expr` for every code of `leaf` and every channel that its constants tell apart."""
    column = codes.astype(np.float32).reshape(-1, 1)
    return evaluate(expr, None, (1, 1, codes.size, 1), {}, {}, {leaf: column})
