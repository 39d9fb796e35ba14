"""Bits from counts: what a step of 1-bit outputs computes is one comparison per output channel.

Whatever the epilogue does to an accumulator (scales, BatchNorm, clipping), it does to every pixel
of a channel alike, and a bit of it changes once along the counts. So the compiler evaluates it
for every count and keeps where, and slices are compared digit by digit: one operation each for as
many pixels as a slice has bits [o].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.popcount.counted import Counted
from mpqdeploy.targets.kernels.sliced.plan import Plan
from mpqdeploy.targets.layout import planes
from mpqdeploy.targets.program import Step
from mpqdeploy.targets.reference import evaluate

ALL = np.uint32(0xFFFFFFFF)


def comparable(step: Step, tensors: Tensors) -> bool:
    """Whether all that a step computes is one bit a channel and pixel, from nothing but its sum."""
    grids = [tensors[output.tensor].grid for output in step.outputs]
    one_bit = len(grids) == 1 and grids[0] is not None and planes(grids[0]) == 1
    return one_bit and not any(step.loads())


def thresholds(
    step: Step, tensors: Tensors, counted: Counted, plan: Plan
) -> NDArray[np.uint32] | None:
    """By output channel, `[O, digits + 1]`: for every digit all ones where the threshold's is 0,
    and last all ones where a count from the threshold on gives 0. `step` is `comparable`.

    None where some channel's bit changes more than once.
    """
    value = step.outputs[0].value
    grid = tensors[step.outputs[0].tensor].grid
    if grid is None:
        raise ValueError(f"{step.name} computes no codes")
    channels = plan.geometry.out_channels
    counts = np.arange(plan.most + 1, dtype=np.int64)[:, None]
    acc = counted.start[:channels].astype(np.int64) + counted.terms.scale * counts
    shape = (1, 1, *acc.shape)
    codes = evaluate(value, acc.reshape(shape), shape, tensors, {}, {})
    bits = np.broadcast_to(codes, shape).reshape(acc.shape) > grid.low
    flipped = bits[0] & ~bits[-1]
    rising = bits ^ flipped
    if (rising[:-1] & ~rising[1:]).any():
        return None
    # A channel that never rises: from 0 on, and the other way round.
    never = ~rising[-1]
    first = np.where(never, 0, rising.argmax(axis=0))
    digits = np.arange(plan.digits)
    zeros = (first[:, None] >> digits & 1) == 0
    found = np.column_stack([zeros, flipped ^ never])
    return np.ascontiguousarray(np.where(found, ALL, np.uint32(0)))
