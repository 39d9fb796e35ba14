"""A step in float64, with a bound on what float32 arithmetic may make of each value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.layout import zero_code
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    FloatConv,
    Given,
    Load,
    MatMul,
    Normalization,
    Pool,
    Product,
    Quant,
    Softmax,
    Step,
    Sum,
    Tensor,
)
from mpqdeploy.targets.views import follow

EPSILON = 2.0**-23  # one rounding is half of this; twice as much is granted
FUNCTION_ERROR = 16 * EPSILON
FUNCTIONS: Mapping[str, Any] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
}
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


def anchor(step: Step, tensors: Mapping[str, Tensor], inputs: Codes) -> Bounded | None:
    """The accumulator, `[N, H, W, C]`, exact where it is an integer."""
    if step.anchor is None:
        return None
    if isinstance(step.anchor, Given):
        return Bounded(step.anchor.values.astype(np.float64), np.zeros(step.anchor.values.shape))
    if isinstance(step.anchor, MatMul):
        return _products(step.anchor, inputs)
    source = tensors[step.anchor.input]
    if source.grid is None:
        return _of_floats(step, tensors, inputs[step.anchor.input].astype(np.float64))
    exact = _of_codes(step, tensors, inputs)
    if isinstance(step.anchor, Pool) and step.anchor.kind == "mean":
        inside = np.ones((1, *source.shape[1:3], 1))
        _, height, width, _ = tensors[step.outputs[0].tensor].shape
        return _float32(exact / np.sum(_taps(step.anchor, inside, (height, width), 0), axis=0), 0)
    return _float32(exact.astype(np.float64), np.zeros(exact.shape))


def _of_floats(step: Step, tensors: Mapping[str, Tensor], x: NDArray[np.float64]) -> Bounded:
    """A rounding for every product and sum."""
    _, height, width, _ = tensors[step.outputs[0].tensor].shape
    size, anchor = (height, width), step.anchor
    if isinstance(anchor, FloatConv):
        count = anchor.weights[0].size
        absolute = replace(anchor, weights=np.abs(anchor.weights))
        error = EPSILON * count * _conv(absolute, np.abs(x), size)
        return Bounded(_conv(anchor, x, size), error)
    if isinstance(anchor, Softmax):
        powers = np.exp(x - x.max(axis=3, keepdims=True))
        value = powers / powers.sum(axis=3, keepdims=True)
        return Bounded(value, FUNCTION_ERROR * value * (1 + np.abs(x).max()))
    if isinstance(anchor, Normalization):
        return _normalized(x, anchor.epsilon)
    assert isinstance(anchor, Pool)
    if anchor.kind == "max":
        value = np.max(_taps(anchor, x, size, -np.inf), axis=0)
        return Bounded(value, np.zeros(value.shape))
    total = np.sum(_taps(anchor, x, size, 0), axis=0)
    error = EPSILON * np.sum(_taps(anchor, np.abs(x), size, 0), axis=0) * np.prod(anchor.kernel)
    if anchor.kind == "sum":
        return Bounded(total, error)
    count = np.sum(_taps(anchor, np.ones((1, *x.shape[1:3], 1)), size, 0), axis=0)
    return _float32(total / count, error / count)


def _products(anchor: MatMul, inputs: Codes) -> Bounded:
    """A matrix after the other; a rounding for every product and sum."""
    left, right = (inputs[name].astype(np.float64) for name in (anchor.input, anchor.right))
    rows, inner = (array.shape[2] // anchor.count for array in (left, right))
    value, error = (np.zeros((*left.shape[:3], right.shape[3])) for _ in range(2))
    for n in range(len(left)):
        for matrix in range(anchor.count):
            own, other = (slice(matrix * size, (matrix + 1) * size) for size in (rows, inner))
            a, b = left[n, 0, own], right[n, 0, other]
            value[n, 0, own] = a @ b
            error[n, 0, own] = EPSILON * inner * (np.abs(a) @ np.abs(b))
    return Bounded(value, error)


def _normalized(x: NDArray[np.float64], epsilon: float) -> Bounded:
    """Deviations are as exact as the mean, of which a rounding for every channel."""
    count = x.shape[3]
    deviation = x - np.sum(x, axis=3, keepdims=True) / count
    root = np.sqrt(np.sum(deviation * deviation, axis=3, keepdims=True) / count + epsilon)
    value = deviation / root
    error = EPSILON * (count + 4) * np.abs(x).max(axis=3, keepdims=True) / root
    return Bounded(value, error + EPSILON * (count + 4) * np.abs(value))


def _of_codes(step: Step, tensors: Mapping[str, Tensor], inputs: Codes) -> NDArray[np.int64]:
    assert isinstance(step.anchor, Conv | Pool)
    source = tensors[step.anchor.input]
    codes = inputs[step.anchor.input].astype(np.int64)
    _, height, width, _ = tensors[step.outputs[0].tensor].shape
    if isinstance(step.anchor, Conv):
        return _conv(step.anchor, codes - zero_code(source), (height, width))
    if step.anchor.kind != "max":
        taps = _taps(step.anchor, codes - zero_code(source), (height, width), 0)
        return np.sum(taps, axis=0)
    return np.max(_taps(step.anchor, codes, (height, width), -(10**6)), axis=0)


def _taps(
    anchor: Conv | FloatConv | Pool, values: NDArray[Any], size: tuple[int, int], fill: float
) -> list[NDArray[Any]]:
    """What tap (0, 0), (0, 1), ... of the window sees: one `[N, H, W, C]` each."""
    kernel = anchor.kernel if isinstance(anchor, Pool) else anchor.weights.shape[1:3]
    dilation = (1, 1) if isinstance(anchor, Pool) else anchor.dilation
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


def _conv(conv: Conv | FloatConv, values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    outputs, rows, columns, depth = conv.weights.shape
    weights = conv.weights.astype(values.dtype).reshape(outputs, rows * columns, depth)
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
    acc: Bounded | None,
    shape: tuple[int, int, int, int],
) -> Bounded:
    def below(x: Expr) -> Bounded:
        return _evaluate(x, tensors, inputs, acc, shape)

    if isinstance(expr, Acc):
        assert acc is not None
        return acc
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
    if isinstance(expr, Product):
        x, y = below(expr.x), below(expr.y)
        error = np.abs(x.value) * y.error + np.abs(y.value) * x.error + x.error * y.error
        return _float32(x.value * y.value, error)
    x = below(expr.x)
    if isinstance(expr, Apply):
        function = FUNCTIONS[expr.function]
        value, ends = function(x.value), (function(x.value - x.error), function(x.value + x.error))
        spread = np.maximum(np.abs(ends[0] - value), np.abs(ends[1] - value))
        return Bounded(value, spread + FUNCTION_ERROR * (1 + np.abs(value) * (1 + np.abs(x.value))))
    if isinstance(expr, Clip):
        return Bounded(np.clip(x.value, expr.low, expr.high), x.error)
    return _quantize(expr, x)


def _float32(value: NDArray[np.float64], error: NDArray[np.float64] | float) -> Bounded:
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
            "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
            "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
            "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
        }
        return np.clip(functions[expr.rounding](value), expr.grid.low, expr.grid.high)

    return Bounded(code(x.value), code(x.value + x.error) - code(x.value - x.error))


def load(
    expr: Load, tensors: Mapping[str, Tensor], inputs: Codes, shape: tuple[int, int, int, int]
) -> NDArray[Any]:
    tensor, codes = tensors[expr.tensor], inputs[expr.tensor]
    zero = zero_code(tensor) if tensor.grid else 0
    if expr.views:
        return _seen(expr, codes, shape, zero)
    picked = codes[:, :: expr.stride[0], :: expr.stride[1]][:, : shape[1], : shape[2]]
    value = np.full(shape, zero, codes.dtype)
    for channel in range(shape[3]):
        if 0 <= channel - expr.channel_offset < codes.shape[3]:
            value[..., channel] = picked[..., channel - expr.channel_offset]
    return value


def _seen(
    expr: Load, codes: NDArray[Any], shape: tuple[int, int, int, int], zero: int
) -> NDArray[Any]:
    """Element by element, with Python's integers."""
    value = np.full(shape, zero, codes.dtype)
    for y, x, c in np.ndindex(*shape[1:]):
        (row, column, channel), conditions = follow(expr.views, (y, x, c))
        place = (row * expr.stride[0], column * expr.stride[1], channel - expr.channel_offset)
        limits = [*conditions, *zip(place, codes.shape[1:], strict=True)]
        if all(0 <= index < extent for index, extent in limits):
            value[:, y, x, c] = codes[:, place[0], place[1], place[2]]
    return value
