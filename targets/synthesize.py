"""`synthesize`: the step that a layer of some geometry and precision becomes in a network.

Kernels are timed on it. It is a convolution with the usual epilogue: per-channel scale and bias,
ReLU, and quantization to the next layer's grid, written in the layout in which the kernel itself
would read it, so that a layer's time includes packing for its successor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import Geometry, Precision
from mpqdeploy.targets.kernels.base import Kernel, Tensors
from mpqdeploy.targets.layout import (
    WORD,
    Layout,
    Layouts,
    buffer_dtype,
    buffer_shape,
    storage_offset,
)
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Floats,
    Grid,
    Ints,
    Output,
    Quant,
    Step,
    Tensor,
)

VERSION = 1  # raise with every change here that can alter a kernel's time: it is part of the key
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """One layer on its own: the step, and the tensors it reads and writes."""

    step: Step
    tensors: Tensors

    def layouts(self, kernel: Kernel) -> Layouts:
        """Input and output both as `kernel` reads its operand; tight layouts are images' alone."""
        operand = kernel.operand(self.step, self.tensors)
        if operand is None:
            raise ValueError(f"kernel {kernel.name} reads no operand for a convolution")
        written = replace(operand, kind="bytes") if operand.kind == "tight" else operand
        return {INPUT: (operand,), OUTPUT: (written,)}


def weight_grid(bits: int) -> Grid:
    """Bipolar at 1 bit, else signed and narrow: the grids that training uses."""
    return Grid(bits=bits, signed=True, narrow=bits > 1, bipolar=bits == 1)


def act_grid(bits: int, *, signed: bool) -> Grid:
    """Unsigned after a ReLU; else signed, and bipolar at 1 bit."""
    return Grid(bits=bits, signed=signed, bipolar=signed and bits == 1)


def synthesize(
    geometry: Geometry, precision: Precision, *, batch: int = 1, seed: int = 0
) -> Workload:
    """A layer of this geometry with random weight codes, and an epilogue that spreads its output.

    Tensors are `"input"` `[batch, H, W, I]` and `"output"` `[batch, OH, OW, O]`, both on the grid
    of the precision's activations; the output is signed where the input is, and then has no ReLU.
    """
    rng = np.random.default_rng(seed)
    acts = act_grid(precision.act_bits, signed=geometry.act_signed)
    weights = _weights(geometry, weight_grid(precision.weight_bits), rng)
    tensors = {
        INPUT: Tensor(
            name=INPUT, shape=(batch, *geometry.in_size, geometry.in_channels), grid=acts
        ),
        OUTPUT: Tensor(
            name=OUTPUT, shape=(batch, *geometry.out_size, geometry.out_channels), grid=acts
        ),
    }
    conv = Conv(
        input=INPUT,
        weights=weights,
        weight_grid=weight_grid(precision.weight_bits),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    output = Output(tensor=OUTPUT, value=_epilogue(weights, acts, rng))
    return Workload(step=Step(name="layer", anchor=conv, outputs=(output,)), tensors=tensors)


def random_buffer(tensor: Tensor, layout: Layout, *, seed: int = 0) -> NDArray[Any]:
    """Contents that the kernel may find in this buffer: any codes of the grid, at random.

    The border holds codes too, which is not what padding means but takes the same time to read.
    """
    rng = np.random.default_rng(seed)
    shape = buffer_shape(tensor, layout)
    if layout.kind == "float" or tensor.grid is None:
        return rng.standard_normal(shape, dtype=np.float32)
    if layout.kind == "bits":
        bits = rng.integers(0, 1 << 32, shape, dtype=np.uint32)
        bits[..., -1] &= np.uint32((1 << ((tensor.shape[3] - 1) % WORD + 1)) - 1)
        return bits
    grid = tensor.grid
    codes = rng.choice((-1, 1), shape) if grid.bipolar else _codes(grid, shape, rng)
    return (codes - storage_offset(grid)).astype(buffer_dtype(layout))


def _weights(geometry: Geometry, grid: Grid, rng: np.random.Generator) -> Ints:
    per_group = geometry.in_channels // geometry.groups
    return _codes(grid, (geometry.out_channels, *geometry.kernel, per_group), rng)


def _codes(grid: Grid, shape: Sequence[int], rng: np.random.Generator) -> Ints:
    if grid.bipolar:
        return rng.choice(np.array((-1, 1), np.int32), tuple(shape))
    return rng.integers(grid.low, grid.high, tuple(shape), dtype=np.int32, endpoint=True)


def _epilogue(weights: Ints, acts: Grid, rng: np.random.Generator) -> Expr:
    """Per-channel affine so that accumulators of random inputs cover the output grid."""
    channels = weights.shape[0]
    taps = weights.size // channels
    spread = np.sqrt(taps) * max(abs(acts.low), acts.high) * float(np.abs(weights).max())
    span = float(acts.high - acts.low)
    mul: Floats = np.float32(span / spread) * rng.uniform(0.5, 2.0, (channels,)).astype(np.float32)
    add: Floats = np.float32(span) * rng.uniform(0.0, 0.5, (channels,)).astype(np.float32)
    value: Expr = Affine(x=Acc(), mul=mul, add=add)
    if not acts.signed:
        value = Clip(x=value, low=0.0, high=np.inf)
    return Quant(x=value, grid=acts)
