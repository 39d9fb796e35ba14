"""`with_larger_sums`: a step whose sums are 2^k times as large, and whose scales so much smaller.

A kernel whose accumulators are multiples of its sums need not divide them where the next thing is a
multiplication: with a power of two, sums are converted and scaled to the very same floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    Floats,
    Product,
    Quant,
    Step,
    Sum,
    operands,
    walk,
)


def with_larger_sums(step: Step, bits: int) -> Step | None:
    """The step with sums 2^bits times as large, and the same outputs; its weights are as large.

    None where sums are read by anything but a scale, or a scale would be less than float32's least
    normal number, and lose digits. Raises `ValueError` where there is no convolution.
    """
    conv = step.anchor
    if not isinstance(conv, Conv):
        raise ValueError(f"{step.name} is no convolution")
    known: dict[Expr, Expr] = {}
    for reader in _readers(step):
        if not isinstance(reader, Affine):
            return None
        mul = reader.mul * np.float32(2.0**-bits)
        if not _normal(mul):
            return None
        known[reader] = Affine(x=Acc(), mul=mul, add=reader.add)
    outputs = tuple(replace(o, value=_with(o.value, known)) for o in step.outputs)
    return replace(step, anchor=replace(conv, weights=conv.weights << bits), outputs=outputs)


def _readers(step: Step) -> Iterator[Expr | None]:
    """What the sums are operands of; None where they are an output."""
    for output in step.outputs:
        if output.value == Acc():
            yield None
        for expr in dict.fromkeys(walk(output.value)):
            if Acc() in operands(expr):
                yield expr


def _normal(values: Floats) -> bool:
    least = np.finfo(np.float32).tiny
    return bool(np.all((np.abs(values) >= least) | (values == 0)))


def _with(expr: Expr, known: dict[Expr, Expr]) -> Expr:
    """`expr` with every part that is `known` replaced; what is found out is added, so that what
    outputs share stays one object."""
    if expr not in known:
        known[expr] = _over(expr, known)
    return known[expr]


def _over(expr: Expr, known: dict[Expr, Expr]) -> Expr:
    if isinstance(expr, Sum | Product):
        return replace(expr, x=_with(expr.x, known), y=_with(expr.y, known))
    if isinstance(expr, Affine | Apply | Clip | Quant):
        return replace(expr, x=_with(expr.x, known))
    return expr
