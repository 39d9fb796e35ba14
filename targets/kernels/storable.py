"""What every kernel needs of the tensors around it: codes that fit the layouts."""

from __future__ import annotations

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.layout import SHORT, stored_channels
from mpqdeploy.targets.program import Step, Tensor

STORED_BITS = 8


def fits_bytes(tensor: Tensor) -> bool:
    """Whether the tensor is float32, or its codes fit a byte."""
    return tensor.grid is None or tensor.grid.bipolar or tensor.grid.bits <= STORED_BITS


def storable(step: Step, tensors: Tensors) -> bool:
    """Whether the epilogue of `step` can be evaluated: codes of at most 8 bits all around,
    or 16-bit sums, and one zero point where a `Load` reaches past its tensor's channels."""
    channels = tensors[step.outputs[0].tensor].shape[3]
    for load in step.loads():
        source = tensors[load.tensor]
        first, last = -load.channel_offset, channels - load.channel_offset
        inside = first >= 0 and last <= source.shape[3] and not load.views
        if not _fits(source) or not (inside or len(set(source.zero_point.tolist())) == 1):
            return False
    return all(_fits(tensors[output.tensor]) for output in step.outputs)


def _fits(tensor: Tensor) -> bool:
    """Whether an epilogue can read and write the tensor."""
    return fits_bytes(tensor) or tensor.grid == SHORT


def lanes_for(channels: int, isa: Isa) -> int:
    """Lanes of an epilogue that stores `channels` channels: images of up to 4 are stored as 4."""
    return min(isa.lanes, stored_channels(channels))
