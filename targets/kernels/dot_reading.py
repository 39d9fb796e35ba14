"""`Reading`: how a dot-product convolution goes through its input, 4 bytes a step.

A pixel at a time; or, where that takes fewer steps, a kernel row at a time. In bytes layout, a
pixel of 3 channels takes 4 bytes, and a fourth of the work is on nothing. In tight layout, the
pixels of a kernel row are one run of bytes: 7 pixels of 3 channels take 6 steps instead of 7, and 5
pixels of 1 channel take 2 instead of 5 [o].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.dot_inner import GROUP
from mpqdeploy.targets.kernels.geometry import Dense, dense, operand_of_dense
from mpqdeploy.targets.kernels.register_tiles import channel_vectors
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Grid, Step


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A convolution as its steps see it.

    `geometry` and `weights` (`[O, KH, KW, I]`): by kernel rows, a row's bytes are the channels of
    its only tap. `operand`: the layout that is read. `pixel`: bytes of a pixel in a run, None where
    the input is read a pixel at a time. `gathering`: whether a run's last byte may be gathered with
    others', see `dot_runs.py`.
    """

    geometry: Dense
    weights: NDArray[np.int32]
    operand: Layout
    pixel: int | None = None
    gathering: bool = False

    @classmethod
    def of(cls, step: Step, tensors: Tensors, isa: Isa | None = None) -> Reading:
        """Of a step whose anchor is a dense integer convolution; `isa`: whose vectors it is for, of
        kernels that gather."""
        geometry, conv = dense(step, tensors), operand_of_dense(step, tensors)[0]
        weights = conv.weights
        gathering = isa is not None and _gathers(geometry, conv.weight_grid, isa)
        if not _by_rows(geometry, gathering):
            operand = Layout(kind="bytes", padding=geometry.padding)
            return cls(geometry=geometry, weights=weights, operand=operand)
        (rows, columns), channels = geometry.kernel, geometry.in_channels
        # The last step of a row must stay inside the buffer.
        beyond = -(-(-columns * channels % GROUP) // channels)
        top, left, bottom, right = geometry.padding
        return cls(
            geometry=replace(geometry, kernel=(rows, 1), in_channels=columns * channels),
            weights=weights.reshape(*weights.shape[:2], 1, columns * channels),
            operand=Layout(kind="tight", padding=(top, left, bottom, right + beyond)),
            pixel=channels,
            gathering=gathering,
        )

    def buffer(self, source: Any) -> Any:
        """The declared input, indexed by image, row, and bytes: see `place`."""
        from tvm.script.ir_builder import tirx as T

        if self.pixel is None:
            return source
        images, height, width, channels = (int(extent) for extent in source.shape)
        return T.decl_buffer((images, height, width * channels), "uint8", data=source.data)

    def place(self, pixel: tuple[Any, Any, Any], group: Any) -> list[Any]:
        """Where in `buffer` the `group`-th step of a tap at (n, row, column) reads."""
        from tvm.script.ir_builder import tirx as T

        if self.pixel is None:
            return [*pixel, T.ramp(group * GROUP, 1, GROUP)]
        n, row, column = pixel
        return [n, row, T.ramp(column * self.pixel + group * GROUP, 1, GROUP)]


def _gathers(geometry: Dense, weights: Grid, isa: Isa) -> bool:
    """Whether kernel rows may be a `Runs`: a gathered word's fourth row may need weights of 0, and
    it pays where several vectors of output channels use what is loaded. For one, loads are what is
    short, and LLVM's own loops load only once what neighbouring pixels share: 0.81 to 0.85 of the
    time of a table of steps [o]."""
    return not weights.bipolar and channel_vectors(geometry.out_channels, isa.lanes) > 1


def _by_rows(geometry: Dense, gathering: bool) -> bool:
    """Whether kernel rows take fewer steps than they have pixels."""
    (rows, pixels), channels = geometry.kernel, geometry.in_channels
    if channels >= GROUP or geometry.dilation[1] != 1:
        return False
    whole, rest = divmod(pixels * channels, GROUP)
    steps = rows * whole + (words(rows) if gathering and rest == 1 else rows * bool(rest))
    return steps < rows * pixels


def words(rows: int) -> int:
    """Words that single bytes of `rows` kernel rows are gathered to."""
    return -(-rows // GROUP)
