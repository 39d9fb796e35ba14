"""`with_larger_sums`: a step whose sums are 2^k times as large, and whose scales so much smaller.

A kernel whose accumulators are multiples of its sums need not divide them where the next thing is a
multiplication: with a power of two, sums are converted and scaled to the very same floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mpqdeploy.targets.program import Acc, Affine, Conv, Expr, Floats, Step, operands, walk
from mpqdeploy.targets.rebuilt import substituted


def with_larger_sums(step: Step, bits: int) -> tuple[Step, int]:
    """The step with sums 2^bits times as large and the same outputs, and 0; its weights are as
    large. `step` itself and `bits`, which are left to divide by, where sums are read by anything
    but a scale, or a scale would be less than float32's least normal number, and lose digits.

    Raises `ValueError` where there is no convolution.
    """
    conv = step.anchor
    if not isinstance(conv, Conv):
        raise ValueError(f"{step.name} is no convolution")
    if not bits:
        return step, 0
    known: dict[Expr, Expr] = {}
    for reader in _readers(step):
        if not isinstance(reader, Affine):
            return step, bits
        mul = reader.mul * np.float32(2.0**-bits)
        if not _normal(mul):
            return step, bits
        known[reader] = Affine(x=Acc(), mul=mul, add=reader.add)
    outputs = tuple(replace(o, value=substituted(o.value, known)) for o in step.outputs)
    return replace(step, anchor=replace(conv, weights=conv.weights << bits), outputs=outputs), 0


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
