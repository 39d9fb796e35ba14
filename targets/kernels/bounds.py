"""How large the values of an epilogue's expressions can be."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mpqdeploy.targets.kernels.geometry import magnitudes
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Floats,
    Load,
    Pool,
    Product,
    Quant,
    Step,
    Sum,
    Tensor,
)

INT32 = float(1 << 31)
MARGIN = 0.99  # for what float32 rounds on the way


def converts(expr: Expr, step: Step, tensors: Mapping[str, Tensor]) -> bool:
    """Whether `expr` is proven to fit int32 when rounded, whatever codes the step reads."""
    return magnitude(expr, step, tensors) < MARGIN * INT32


def magnitude(expr: Expr, step: Step, tensors: Mapping[str, Tensor]) -> float:
    """A bound on |expr| for all codes that the step may read, infinite where none is known."""
    if isinstance(expr, Acc):
        return _sum(step, tensors)
    if isinstance(expr, Load):
        grid, zero = tensors[expr.tensor].grid, tensors[expr.tensor].zero_point
        return math.inf if grid is None else max(-grid.low, grid.high, _largest(zero))
    if isinstance(expr, Quant):
        return max(-expr.grid.low, expr.grid.high)
    if isinstance(expr, Affine):
        return magnitude(expr.x, step, tensors) * _largest(expr.mul) + _largest(expr.add)
    if isinstance(expr, Clip):
        return min(magnitude(expr.x, step, tensors), max(abs(expr.low), abs(expr.high)))
    if isinstance(expr, Sum):
        return magnitude(expr.x, step, tensors) + magnitude(expr.y, step, tensors)
    if isinstance(expr, Product):
        return magnitude(expr.x, step, tensors) * magnitude(expr.y, step, tensors)
    return math.inf


def _sum(step: Step, tensors: Mapping[str, Tensor]) -> float:
    """A bound on |accumulator|: of a convolution, from its actual weights."""
    anchor = step.anchor
    if not isinstance(anchor, Conv | Pool):
        return math.inf
    source = tensors[anchor.input]
    if source.grid is None:
        return math.inf
    if isinstance(anchor, Pool) and anchor.kind == "max":
        return max(-source.grid.low, source.grid.high)
    furthest = max(
        _largest(source.grid.low - source.zero_point),
        _largest(source.grid.high - source.zero_point),
    )
    if isinstance(anchor, Pool):
        return furthest * math.prod(anchor.kernel)
    return furthest * float(magnitudes(anchor.weights).max(initial=0))


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
