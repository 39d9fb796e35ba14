"""Expressions made again, over other operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mpqdeploy.targets.program import Affine, Apply, Clip, Expr, Product, Quant, Sum

Change = Callable[[Expr], Expr]


def rebuilt(expr: Expr, change: Change) -> Expr:
    """The same operation on changed operands; `expr` itself where it has none."""
    if isinstance(expr, Sum | Product):
        return replace(expr, x=change(expr.x), y=change(expr.y))
    if isinstance(expr, Affine | Apply | Clip | Quant):
        return replace(expr, x=change(expr.x))
    return expr


def substituted(
    expr: Expr, known: dict[Expr, Expr], over: Callable[[Expr, Change], Expr] = rebuilt
) -> Expr:
    """`expr` with every part that is `known` replaced, and made again by `over` above it.

    What is found out is added to `known`: what several expressions share stays one object.
    """
    if expr not in known:
        known[expr] = over(expr, lambda part: substituted(part, known, over))
    return known[expr]
