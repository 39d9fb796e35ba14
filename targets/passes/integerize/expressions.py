"""Constructors of epilogue expressions that keep them short.

Constants are merged in float64 and rounded to float32 once, when an `Affine` is made. Every rewrite
is exact in real arithmetic; a clip is dropped only where it cannot change a code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpqdeploy.targets.program import (
    Affine,
    Clip,
    Expr,
    Grid,
    Output,
    Quant,
    Rounding,
    Sum,
    operands,
    walk,
)
from mpqdeploy.targets.rebuilt import Change, rebuilt

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactAffine(Affine):
    """An `Affine` that remembers its constants in float64, for merging."""

    exact_mul: Doubles
    exact_add: Doubles


def per_channel(values: ArrayLike) -> Doubles:
    """`values` as float64 of shape `[C]`, or `[1]` where they are all the same."""
    array = np.atleast_1d(np.asarray(values, np.float64)).reshape(-1)
    return array[:1] if np.all(array == array[0]) else array


def affine(x: Expr, mul: ArrayLike, add: ArrayLike = 0.0) -> Expr:
    """mul * x + add, merged into `x` where that is an affine or a clip of one."""
    mul, add = per_channel(mul), per_channel(add)
    if np.all(mul == 1) and np.all(add == 0):
        return x
    if isinstance(x, ExactAffine):
        return affine(x.x, mul * x.exact_mul, mul * x.exact_add + add)
    if isinstance(x, Clip) and mul.size == add.size == 1 and mul[0] > 0:
        low, high = (float(bound * mul[0] + add[0]) for bound in (x.low, x.high))
        return Clip(x=affine(x.x, mul, add), low=low, high=high)
    return ExactAffine(
        x=x,
        mul=mul.astype(np.float32),
        add=add.astype(np.float32),
        exact_mul=mul,
        exact_add=add,
    )


def clip(x: Expr, low: float, high: float) -> Expr:
    """min(max(x, low), high); a clip of a clip is one clip."""
    if isinstance(x, Clip):
        bounds = np.clip([x.low, x.high], low, high)
        return Clip(x=x.x, low=float(bounds[0]), high=float(bounds[1]))
    return x if low == -np.inf and high == np.inf else Clip(x=x, low=low, high=high)


def quantize(x: Expr, scale: Doubles, zero_point: Doubles, grid: Grid, rounding: Rounding) -> Expr:
    """The code of the real value `x`, without a clip that the grid's own limits imply."""
    if isinstance(x, Clip):
        # A clipped value within half a step of the grid's limit rounds to that limit anyway.
        slack = 0.49 if rounding == "ROUND" and not grid.bipolar else 0.0
        lowest = np.max(x.low / scale + zero_point)
        highest = np.min(x.high / scale + zero_point)
        low = -np.inf if lowest <= grid.low + slack else x.low
        high = np.inf if highest >= grid.high - slack else x.high
        x = clip(x.x, low, high)
    return Quant(x=affine(x, 1.0 / scale, zero_point), grid=grid, rounding=rounding)


def dequantize(code: Expr, scale: Doubles, zero_point: Doubles) -> Expr:
    """scale * (code - zero_point)."""
    return affine(code, scale, -scale * zero_point)


def distribute(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """The same outputs with affines moved into the sums below them, and what is added to both
    parts of a sum to the first, which saves an operation each.

    A sum that is used more than once stays shared, and is computed once.
    """
    uses = _uses(outputs)
    memo: dict[Expr, Expr] = {}

    def rewrite(expr: Expr) -> Expr:
        if expr not in memo:
            memo[expr] = _rewritten(expr)
        return memo[expr]

    def _rewritten(expr: Expr) -> Expr:
        if isinstance(expr, ExactAffine):
            below = expr.x
            if isinstance(below, Sum) and uses[below] == 1:
                left = affine(below.x, expr.exact_mul, expr.exact_add)
                return _of_one_constant(rewrite(left), rewrite(affine(below.y, expr.exact_mul)))
            return affine(rewrite(below), expr.exact_mul, expr.exact_add)
        if isinstance(expr, Sum) and uses[expr.x] == uses[expr.y] == 1:
            return _of_one_constant(rewrite(expr.x), rewrite(expr.y))
        return mapped(expr, rewrite)

    return tuple(Output(tensor=output.tensor, value=rewrite(output.value)) for output in outputs)


def _of_one_constant(left: Expr, right: Expr) -> Sum:
    """Their sum; of two affines with what the second adds moved to the first: one addition less."""
    if isinstance(left, ExactAffine) and isinstance(right, ExactAffine):
        moved = affine(left, 1.0, right.exact_add)
        return Sum(x=moved, y=affine(right.x, right.exact_mul))
    return Sum(x=left, y=right)


def total(terms: Sequence[Expr]) -> Expr:
    """The sum of all, balanced: many terms make no deep expression."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return Sum(x=total(terms[:half]), y=total(terms[half:]))


def mapped(expr: Expr, change: Change) -> Expr:
    """`expr` over changed operands; an affine is simplified again."""
    if isinstance(expr, ExactAffine):
        return affine(change(expr.x), expr.exact_mul, expr.exact_add)
    if isinstance(expr, Affine):
        return affine(change(expr.x), expr.mul, expr.add)
    return rebuilt(expr, change)


def _uses(outputs: Sequence[Output]) -> Counter[Expr]:
    """How often every sub-expression is an operand or an output, counting shared parents once."""
    uses = Counter(output.value for output in outputs)
    for expr in dict.fromkeys(part for output in outputs for part in walk(output.value)):
        uses.update(operands(expr))
    return uses
