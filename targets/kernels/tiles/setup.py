"""`Setup`: a convolution on a certain input buffer, by a certain schedule, ready for the nest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Schedule, Tensors
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.geometry import operand_of_dense
from mpqdeploy.targets.kernels.tiles.pairs import HALF, Pairs, paired, paired_weights
from mpqdeploy.targets.kernels.tiles.phases import TakenApart, apart
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.layout import CHANNEL_BLOCK, Layout
from mpqdeploy.targets.program import Conv, Step

NARROW = 11  # columns: products of so few pixels wait for each other's sums


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """`codes`: the weights, `[output-channel tiles, codes]`; `origin`: see `Dense.origin`; `copy`:
    what the input is copied to, if it is."""

    plan: Plan
    blocking: Blocking
    codes: NDArray[np.int32]
    origin: tuple[int, int]
    copy: Pairs | TakenApart | None

    @classmethod
    def of(cls, step: Step, tensors: Tensors, layout: Layout, schedule: Schedule) -> Setup:
        conv, tensor, _ = operand_of_dense(step, tensors)
        reading = Reading.of(step, tensors)
        plan, weights = Plan.of(reading), reading.weights
        copy: Pairs | TakenApart | None = None
        blocking = Blocking(schedule["pixels"], schedule["vectors"], bool(schedule["apart"]))
        flat = flattened(plan, step, tensors, layout) if schedule["flat"] else None
        if flat and Blocking(flat.tiles, blocking.vectors).fits:
            plan, blocking = flat, Blocking(min(blocking.pixels, flat.tiles), blocking.vectors)
        elif schedule["flat"]:  # another reader wants a wider border: the rows lie too far apart
            blocking = Blocking(1, blocking.vectors)
        origin = plan.geometry.origin(layout)
        if plan.phases:
            copy, origin = TakenApart(plan.phases, origin, plan.pixel), (0, 0)
        height, width = _padded(layout, tensor.shape)
        two_rows = _paired(plan, conv, width)
        if two_rows:
            copy = Pairs.of(plan, height, width, origin[0])
            weights = paired_weights(conv.weights, plan.pixel)
            plan, origin = two_rows, (0, origin[1])
        codes = plan.weights(weights, blocking.vectors)
        return cls(plan=plan, blocking=blocking, codes=codes, origin=origin, copy=copy)


def flattened(plan: Plan, step: Step, tensors: Tensors, layout: Layout) -> Plan | None:
    """`plan` for an image as one long row, in a buffer of this layout; None where rows fill tiles,
    or where that is more than one block."""
    geometry = plan.geometry
    if geometry.out_width > NARROW or geometry.out_height == 1:
        return None
    flat: Plan | None = None
    if geometry.stride == (1, 1):
        _, pitch = _padded(layout, operand_of_dense(step, tensors)[1].shape)
        flat = replace(plan, pitch=pitch)
    elif plan.pixel % CHANNEL_BLOCK == 0:
        flat = apart(plan)
    return flat if flat and Blocking(flat.tiles, 1).fits else None


def _paired(plan: Plan, conv: Conv, width: int) -> Plan | None:
    """`plan` on pairs of rows; None where that is no better, or where rows of the padded input are
    too short to be copied, or weights cannot be 0, as some have to be."""
    if conv.weight_grid.bipolar or width * plan.pixel < HALF:
        return None
    return paired(plan, conv.weights.shape[2])


def _padded(layout: Layout, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor of this shape in such a buffer."""
    top, left, bottom, right = layout.padding
    return top + shape[1] + bottom, left + shape[2] + right
