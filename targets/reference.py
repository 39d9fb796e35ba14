"""The reference executor: a `Program` in numpy, exact in int64, then float32 as documented."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    FloatConv,
    Floats,
    Function,
    Given,
    Load,
    MatMul,
    Normalization,
    Pool,
    Port,
    Product,
    Program,
    Quant,
    Rounding,
    Softmax,
    Step,
    Sum,
    Tensor,
)
from mpqdeploy.targets.views import follow

Array = NDArray[Any]
Values = Mapping[str, Array]
ROUND: Mapping[Rounding, Callable[[Array], Array]] = {
    "ROUND": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.where(x < 0, np.floor(x), np.ceil(x)),
    "HALF_UP": lambda x: np.where(x < 0, np.ceil(x - 0.5), np.floor(x + 0.5)),
    "HALF_DOWN": lambda x: np.where(x < 0, np.floor(x + 0.5), np.ceil(x - 0.5)),
}
FUNCTIONS: Mapping[Function, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float32]),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
}


def run(program: Program, inputs: Mapping[str, Floats]) -> dict[str, Array]:
    """Every tensor of `program` by name, as `[N, H, W, C]`: codes as int32, the others float32.

    `inputs`: by port name, in the port's shape (NCHW or NC).

    Raises:
        ValueError: an input is missing, or of another shape.
    """
    values: dict[str, Array] = {}
    for port in program.inputs:
        values[port.tensor] = _from_port(port, inputs, program.tensors[port.tensor])
    for step in program.steps:
        values.update(run_step(step, program.tensors, values))
    return values


def outputs(program: Program, values: Values) -> dict[str, Floats]:
    """The model's outputs by port name, in the port's shape, out of the result of `run`."""
    return {
        port.name: to_port(np.asarray(values[port.tensor], np.float32), port.shape)
        for port in program.outputs
    }


def _from_port(port: Port, inputs: Mapping[str, Floats], tensor: Tensor) -> Floats:
    if port.name not in inputs or np.shape(inputs[port.name]) != port.shape:
        raise ValueError(f"input '{port.name}' must have shape {port.shape}")
    return to_logical(np.asarray(inputs[port.name], np.float32), tensor.shape)


def to_logical(array: Array, shape: tuple[int, int, int, int]) -> Array:
    """NCHW or (flat) NC to logical `[N, H, W, C]`."""
    batch, height, width, channels = shape
    return array.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)


def to_port(array: Array, shape: tuple[int, ...]) -> Array:
    """Logical `[N, H, W, C]` to NCHW or (flat) NC."""
    return array.transpose(0, 3, 1, 2).reshape(shape)


def run_step(step: Step, tensors: Mapping[str, Tensor], values: Values) -> dict[str, Array]:
    """What `step` writes, by tensor name, given (at least) what it reads."""
    acc = accumulate(step, tensors, values)
    results: dict[str, Array] = {}
    memo: dict[Expr, Floats] = {}
    for output in step.outputs:
        tensor = tensors[output.tensor]
        value = evaluate(output.value, acc, tensor.shape, tensors, values, memo)
        value = np.broadcast_to(value, tensor.shape)
        results[tensor.name] = value.astype(np.float32 if tensor.grid is None else np.int32)
    return results


def accumulate(step: Step, tensors: Mapping[str, Tensor], values: Values) -> Array | None:
    """The accumulator of the step's anchor, `[N, H, W, C]`; None without an anchor.

    int64 of codes, float64 of floats and of means.
    """
    anchor = step.anchor
    if anchor is None:
        return None
    if isinstance(anchor, Given):
        return anchor.values.astype(np.float64)
    source = tensors[anchor.input]
    value = values[anchor.input].astype(np.float64 if source.grid is None else np.int64)
    zero = 0 if source.grid is None else int(source.zero_point.reshape(-1)[0])
    match anchor:
        case Softmax():
            return _softmax(value)
        case Normalization():
            return _normalized(value, anchor.epsilon)
        case MatMul():
            return matrix_products(anchor, value, values[anchor.right].astype(np.float64))
        case Pool():
            return _pool(anchor, value, zero)
        case Conv(pool=Pool() as pool):
            return _pool(pool, _conv(anchor, value - zero), 0)
        case Conv() | FloatConv():
            return _conv(anchor, value - zero)


def matrix_products(anchor: MatMul, left: Array, right: Array) -> Array:
    """Of all pairs: `[N, 1, count * M, L]`."""
    batch, _, rows, inner = left.shape
    lefts = left.reshape(batch, anchor.count, rows // anchor.count, inner)
    found: Array = lefts @ right.reshape(batch, anchor.count, inner, right.shape[3])
    return found.reshape(batch, 1, rows, right.shape[3])


def _windows(
    image: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Array:
    """Every tap of a padded image: `[KH, KW, N, OH, OW, C]`."""
    _, height, width, _ = image.shape
    rows = (height - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    columns = (width - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    taps = [
        [
            image[:, y : y + (rows - 1) * stride[0] + 1 : stride[0]][
                :, :, x : x + (columns - 1) * stride[1] + 1 : stride[1]
            ]
            for x in range(0, kernel[1] * dilation[1], dilation[1])
        ]
        for y in range(0, kernel[0] * dilation[0], dilation[0])
    ]
    return np.array(taps, image.dtype)


def _pad(image: Array, padding: tuple[int, int, int, int], value: float) -> Array:
    top, left, bottom, right = padding
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(image, border, constant_values=value)


def _conv(conv: Conv | FloatConv, codes: Array) -> Array:
    out, height, width, inner = conv.weights.shape
    taps = _windows(_pad(codes, conv.padding, 0), (height, width), conv.stride, conv.dilation)
    grouped = taps.reshape(*taps.shape[:-1], conv.groups, inner)
    weights = conv.weights.astype(codes.dtype)
    weights = weights.reshape(conv.groups, out // conv.groups, height, width, inner)
    acc: Array = np.einsum("hwnyxgi,gohwi->nyxgo", grouped, weights, optimize=True)
    return acc.reshape(*acc.shape[:3], out)


def magnitude(
    conv: Conv | FloatConv, tensors: Mapping[str, Tensor], values: Values
) -> NDArray[np.float64]:
    """The sum of the products' magnitudes, which bounds what rounding each of them can do."""
    source = values[conv.input].astype(np.float64)
    zero = tensors[conv.input].zero_point.reshape(-1)[0] if isinstance(conv, Conv) else 0.0
    absolute: Conv | FloatConv
    if isinstance(conv, Conv):
        absolute = replace(conv, weights=np.abs(conv.weights))
    else:
        absolute = replace(conv, weights=np.abs(conv.weights))
    return np.asarray(_conv(absolute, np.abs(source - zero)), np.float64)


def _pool(pool: Pool, codes: Array, zero: int) -> Array:
    if pool.kind == "max":
        lowest = -np.inf if codes.dtype == np.float64 else np.iinfo(np.int32).min
        taps = _windows(_pad(codes, pool.padding, lowest), pool.kernel, pool.stride, (1, 1))
        return np.asarray(taps.max(axis=(0, 1)))
    taps = _windows(_pad(codes - zero, pool.padding, 0), pool.kernel, pool.stride, (1, 1))
    total = np.asarray(taps.sum(axis=(0, 1)))
    if pool.kind == "sum":
        return total
    inside = _pad(np.ones(codes.shape), pool.padding, 0)
    taps = _windows(inside, pool.kernel, pool.stride, (1, 1))
    return np.asarray(total / taps.sum(axis=(0, 1)))


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=3, keepdims=True))
    return np.asarray(powers / powers.sum(axis=3, keepdims=True))


def _normalized(x: Array, epsilon: float) -> Array:
    deviation = x - x.mean(axis=3, keepdims=True)
    variance = np.square(deviation).mean(axis=3, keepdims=True)
    return np.asarray(deviation / np.sqrt(variance + epsilon))


def evaluate(
    expr: Expr,
    acc: Array | None,
    shape: tuple[int, int, int, int],
    tensors: Mapping[str, Tensor],
    values: Values,
    memo: dict[Expr, Floats],
) -> Floats:
    """The float32 values of `expr`, `[N, H, W, C]`; `memo` keeps those of shared expressions."""
    if expr not in memo:
        memo[expr] = _evaluate(expr, acc, shape, tensors, values, memo)
    return memo[expr]


def _evaluate(
    expr: Expr,
    acc: Array | None,
    shape: tuple[int, int, int, int],
    tensors: Mapping[str, Tensor],
    values: Values,
    memo: dict[Expr, Floats],
) -> Floats:
    def below(operand: Expr) -> Floats:
        return evaluate(operand, acc, shape, tensors, values, memo)

    match expr:
        case Acc():
            if acc is None:
                raise ValueError("an accumulator without an anchor")
            return acc.astype(np.float32)
        case Load():
            return load(expr, shape, tensors[expr.tensor], values[expr.tensor])
        case Affine():
            return expr.mul * below(expr.x) + expr.add
        case Sum():
            return below(expr.x) + below(expr.y)
        case Product():
            return below(expr.x) * below(expr.y)
        case Apply():
            exact = FUNCTIONS[expr.function](below(expr.x).astype(np.float64))
            return np.asarray(exact, np.float32)
        case Clip():
            return np.clip(below(expr.x), np.float32(expr.low), np.float32(expr.high))
        case Quant():
            return _quantize(expr, below(expr.x))


def load(expr: Load, shape: tuple[int, int, int, int], tensor: Tensor, value: Array) -> Floats:
    """The elements that `expr` reads, `shape`; channels outside `tensor` are its zero point."""
    if expr.views:
        value, expr = _seen(expr, shape, tensor, value), Load(tensor=expr.tensor)
    down, across = expr.stride
    strided = value[:, ::down, ::across].astype(np.float32)
    result = np.empty((*strided.shape[:3], shape[3]), np.float32)
    result[...] = tensor.zero_point[0]
    offset = expr.channel_offset
    first, end = max(offset, 0), min(offset + strided.shape[3], shape[3])
    result[..., first:end] = strided[..., first - offset : end - offset]
    return result[:, : shape[1], : shape[2]]


def _seen(expr: Load, shape: tuple[int, int, int, int], tensor: Tensor, value: Array) -> Array:
    """`value` through the views of `expr`, `shape`."""
    at = np.ix_(*(np.arange(extent) for extent in shape[1:]))
    (y, x, c), conditions = follow(expr.views, (at[0], at[1], at[2]))
    place = (y * expr.stride[0], x * expr.stride[1], c - expr.channel_offset)
    limits = [*conditions, (place[2], tensor.shape[3])]
    inside = np.ones(shape[1:], bool)
    for index, extent in limits:
        inside &= (index >= 0) & (index < extent)
    rows, columns, channels = (
        np.clip(index, 0, extent - 1) for index, extent in zip(place, tensor.shape[1:], strict=True)
    )
    found = np.broadcast_to(value[:, rows, columns, channels], shape)
    return np.where(inside, found, tensor.zero_point[0])


def _quantize(quant: Quant, x: Floats) -> Floats:
    if quant.grid.bipolar:
        return np.where(x >= 0, np.float32(1), np.float32(-1))
    rounded = ROUND[quant.rounding](x)
    return np.clip(rounded, np.float32(quant.grid.low), np.float32(quant.grid.high))
