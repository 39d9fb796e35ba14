"""Codes that follow from other codes: a second output in fewer bits, computed on bytes.

A residual stream is rounded to its own width, and once more to the next layer's grid. The second
code is a function of the first, which is computed for 64 codes at a time, whether the first one is
written as well or not: by comparisons, where it has few values; else from a table, where the CPU
has one and a single lookup will do; else by a staircase.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.epilogue.lookup_bytes import Table
from mpqdeploy.targets.kernels.epilogue.staircase import Staircase, fitted
from mpqdeploy.targets.kernels.epilogue.thresholds import Thresholds
from mpqdeploy.targets.layout import storage_offset
from mpqdeploy.targets.program import Affine, Clip, Expr, Floats, Grid, Quant
from mpqdeploy.targets.reference import evaluate

Way = Staircase | Thresholds | Table


def beneath(expr: Expr) -> Quant | None:
    """The codes on which `expr` depends and on nothing else; None where there are none."""
    under = bottom(expr)
    return under if isinstance(under, Quant) else None


def bottom(expr: Expr) -> Expr | None:
    """What the codes `expr` are scaled, clipped and rounded from; None where they are no codes."""
    under = expr.x if isinstance(expr, Quant) else None
    while isinstance(under, Affine | Clip):
        under = under.x
    return under


def leads(value: Quant, known: Grid, *, tables: bool = False) -> Way | None:
    """From stored codes of the grid `known`, which are the `bottom` of `value`, to its own; None
    where channels differ, or no way is exactly it.

    `tables`: whether the CPU looks bytes up (AVX-512 VBMI)."""
    if value.rounding != "ROUND" or value.grid.bipolar:
        return None
    codes, by_channel = of_codes(value.x, value, known)
    before = by_channel[:, 0]
    if (by_channel != before[:, None]).any():
        return None
    wanted = np.clip(np.rint(before), value.grid.low, value.grid.high).astype(np.int64)
    stored, wanted = codes - storage_offset(known), wanted - storage_offset(value.grid)
    few = Thresholds.of(stored, wanted)
    if few is not None:
        return few
    table = Table.of(stored, wanted) if tables else None
    if table is not None and table.first is not None:  # one lookup
        return table
    slope = float(np.diff(before).max(initial=0.0))
    high = value.grid.high - storage_offset(value.grid)
    return fitted(stored, wanted, slope, high) or table


def of_codes(expr: Expr, value: Quant, known: Grid) -> tuple[NDArray[np.int64], Floats]:
    """Every code that the `bottom` of `value`, on the grid `known`, may be, and `expr`, a part of
    `value`, for each and for every channel that its constants tell apart.

    Raises `ValueError` where `value` has no bottom."""
    leaf = bottom(value)
    if leaf is None:
        raise ValueError("only what is scaled, clipped and rounded follows from codes")
    codes = np.arange(known.low, known.high + 1)
    column = codes.astype(np.float32).reshape(-1, 1)
    return codes, evaluate(expr, None, (1, 1, codes.size, 1), {}, {}, {leaf: column})
