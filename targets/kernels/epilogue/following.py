"""Outputs that follow from codes that an anchor has as bytes, as a maximum's are: no floats at all.

A pooled stream is written as it is, and once more in the next layer's bits, 64 codes at a time.
"""

from __future__ import annotations

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.epilogue.leading import bottom
from mpqdeploy.targets.kernels.epilogue.packed import Follows, follows
from mpqdeploy.targets.kernels.epilogue.staircase import BYTE_BITS, BYTES
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Acc, Grid, Output, Quant, Step


def all_follow(
    step: Step, tensors: Tensors, layouts: Layouts, grid: Grid, isa: Isa
) -> tuple[Follows, ...] | None:
    """How every layout of every output follows from an accumulator that is a code of `grid`, in
    `Epilogue.writes`' order (None: as it is); None where one does not, or where 64 channels are no
    unit."""
    channels = tensors[step.outputs[0].tensor].shape[3]
    if isa is not Isa.VNNI or grid.bipolar or grid.bits > BYTE_BITS:
        return None
    if stored_channels(channels) % BYTES:
        return None
    found: list[Follows] = []
    for output in step.outputs:
        for layout in layouts[output.tensor]:
            known, how = _how(output, tensors, layout, grid)
            if not known:
                return None
            found.append(how)
    return tuple(found)


def _how(output: Output, tensors: Tensors, layout: Layout, grid: Grid) -> tuple[bool, Follows]:
    """Whether the output follows, and how."""
    value, tensor = output.value, tensors[output.tensor]
    whole = layout.kind == "bytes" or (layout.kind == "bits" and tensor.shape[3] % BYTES == 0)
    if not whole:
        return False, None
    if isinstance(value, Acc):
        return tensor.grid == grid, None
    if not isinstance(value, Quant) or bottom(value) != Acc() or value.grid != tensor.grid:
        return False, None
    how = follows(value, grid, layout) if value.grid.bits <= BYTE_BITS else None
    return how is not None, how
