"""A step in float64, with a bound on what float32 arithmetic may make of each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.layout import zero_code
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Load,
    Pool,
    Quant,
    Step,
    Sum,
    Tensor,
)

EPSILON = 2.0**-23  # one rounding is half of this; twice as much is granted
Codes = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Bounded:
    """Values, and how far float32 arithmetic may be from them."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def expected(step: Step, tensors: Mapping[str, Tensor], inputs: Codes) -> dict[str, Bounded]:
    """Every output of `step`, shape `[N, H, W, C]`; `inputs`: codes or floats of that shape."""
    acc = anchor(step, tensors, inputs)
    shape = tensors[step.outputs[0].tensor].shape
    return {
        output.tensor: _evaluate(output.value, tensors, inputs, acc, shape)
        for output in step.outputs
    }


def anchor(step: Step, tensors: Mapping[str, Tensor], inputs: Codes) -> NDArray[np.int64] | None:
    """The exact accumulator, `[N, H, W, C]`."""
    if step.anchor is None:
        return None
    source = tensors[step.anchor.input]
    codes = inputs[step.anchor.input].astype(np.int64)
    _, height, width, _ = tensors[step.outputs[0].tensor].shape
    if isinstance(step.anchor, Conv):
        return _conv(step.anchor, codes - zero_code(source), (height, width))
    if step.anchor.kind == "sum":
        taps = _taps(step.anchor, codes - zero_code(source), (height, width), 0)
        return np.sum(taps, axis=0)
    return np.max(_taps(step.anchor, codes, (height, width), -(10**6)), axis=0)


def _taps(
    anchor: Conv | Pool, values: NDArray[np.int64], size: tuple[int, int], fill: int
) -> list[NDArray[np.int64]]:
    """What tap (0, 0), (0, 1), ... of the window sees: one `[N, H, W, C]` each."""
    kernel = anchor.weights.shape[1:3] if isinstance(anchor, Conv) else anchor.kernel
    dilation = anchor.dilation if isinstance(anchor, Conv) else (1, 1)
    top, left, _, _ = anchor.padding
    reach = [(size[i] - 1) * anchor.stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    rows, columns = values.shape[1:3]
    after = [max(0, reach[0] - top - rows), max(0, reach[1] - left - columns)]
    around = ((0, 0), (top, after[0]), (left, after[1]), (0, 0))
    padded = np.pad(values, around, constant_values=fill)
    return [
        padded[
            :,
            i * dilation[0] :: anchor.stride[0],
            j * dilation[1] :: anchor.stride[1],
        ][:, : size[0], : size[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def _conv(conv: Conv, values: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    outputs, rows, columns, depth = conv.weights.shape
    weights = conv.weights.astype(np.int64).reshape(outputs, rows * columns, depth)
    each = outputs // conv.groups
    groups = []
    for group in range(conv.groups):
        part = values[..., group * depth : (group + 1) * depth]
        kernels = weights[group * each : (group + 1) * each]
        taps = _taps(conv, part, size, 0)
        groups.append(sum(tap @ kernels[:, i].T for i, tap in enumerate(taps)))
    return np.concatenate(groups, axis=3)


def _evaluate(
    expr: Expr,
    tensors: Mapping[str, Tensor],
    inputs: Codes,
    acc: NDArray[np.int64] | None,
    shape: tuple[int, int, int, int],
) -> Bounded:
    def below(x: Expr) -> Bounded:
        return _evaluate(x, tensors, inputs, acc, shape)

    if isinstance(expr, Acc):
        assert acc is not None
        return _float32(acc.astype(np.float64), np.zeros(acc.shape))
    if isinstance(expr, Load):
        value = load(expr, tensors, inputs, shape).astype(np.float64)
        return Bounded(value, np.zeros(value.shape))
    if isinstance(expr, Affine):
        x = below(expr.x)
        mul, add = expr.mul.astype(np.float64), expr.add.astype(np.float64)
        error = np.abs(mul) * x.error + EPSILON * np.abs(mul * x.value)
        return _float32(mul * x.value + add, error)
    if isinstance(expr, Sum):
        x, y = below(expr.x), below(expr.y)
        return _float32(x.value + y.value, x.error + y.error)
    x = below(expr.x)
    if isinstance(expr, Clip):
        return Bounded(np.clip(x.value, expr.low, expr.high), x.error)
    return _quantize(expr, x)


def _float32(value: NDArray[np.float64], error: NDArray[np.float64]) -> Bounded:
    exact = value.astype(np.float32) == value
    return Bounded(value, error + np.where(exact & (error == 0), 0, EPSILON * np.abs(value)))


def _quantize(expr: Quant, x: Bounded) -> Bounded:
    """The code, exact unless the value is within its error of a threshold."""

    def code(value: NDArray[np.float64]) -> NDArray[np.float64]:
        if expr.grid.bipolar:
            return np.where(value >= 0, 1.0, -1.0)
        functions = {
            "ROUND": np.rint,
            "FLOOR": np.floor,
            "CEIL": np.ceil,
            "ROUND_TO_ZERO": np.trunc,
        }
        return np.clip(functions[expr.rounding](value), expr.grid.low, expr.grid.high)

    return Bounded(code(x.value), code(x.value + x.error) - code(x.value - x.error))


def load(
    expr: Load, tensors: Mapping[str, Tensor], inputs: Codes, shape: tuple[int, int, int, int]
) -> NDArray[Any]:
    tensor, codes = tensors[expr.tensor], inputs[expr.tensor]
    zero = zero_code(tensor) if tensor.grid else 0
    picked = codes[:, :: expr.stride[0], :: expr.stride[1]][:, : shape[1], : shape[2]]
    value = np.full(shape, zero, codes.dtype)
    for channel in range(shape[3]):
        if 0 <= channel - expr.channel_offset < codes.shape[3]:
            value[..., channel] = picked[..., channel - expr.channel_offset]
    return value
