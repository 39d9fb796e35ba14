"""Nodes that become part of an epilogue: quantizers, clips, normalization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.builder import Coded, Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import (
    Doubles,
    affine,
    clip,
    dequantize,
    quantize,
)
from mpqdeploy.targets.passes.integerize.quantizers import MAX_BITS, Quantizer, read_quantizer
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Grid, Rounding


def quant(context: Context, node: Node) -> Value:
    """Quant and BipolarQuant of an activation."""
    parameters = [context.array(node, index) for index in range(1, len(node.inputs))]
    quantizer = read_quantizer(node, parameters)
    value = context.operand(node, 0, quantizer.scale, quantizer.zero_point, padded=True)
    scale = context.per_channel(node, quantizer.scale, value)
    zero_point = context.per_channel(node, quantizer.zero_point, value)
    if any(value.padding) and not _keeps_zero(quantizer.grid, zero_point):
        value = context.operand(node, 0, quantizer.scale, quantizer.zero_point)
    if value.coded is not None and _repeats(value.coded, quantizer, scale, zero_point):
        return context.renamed(node, value, value.shape)
    expr = quantize(value.expr, scale, zero_point, quantizer.grid, quantizer.rounding)
    coded = Coded(
        name=node.output, expr=expr, grid=quantizer.grid, scale=scale, zero_point=zero_point
    )
    return quantized(context, node, value, coded)


def quantized(context: Context, node: Node, value: Value, coded: Coded) -> Value:
    """The result of the quantizer `node`: a code, or a float where the code is too wide for one."""
    bits = coded.grid.bits
    if bits <= MAX_BITS:
        return context.coded(node, value, coded)
    real = dequantize(coded.expr, coded.scale, coded.zero_point)
    reason = f"{node.op} '{node.name}' is {bits} bits wide, more than {MAX_BITS}"
    result = context.elementwise(node, value, real, reason)
    return replace(result, padding=value.padding)


def _keeps_zero(grid: Grid, zero_point: Doubles) -> bool:
    integral = np.all(zero_point == np.rint(zero_point))
    inside = np.all((zero_point >= grid.low) & (zero_point <= grid.high))
    return bool(integral and inside and not grid.bipolar)


def _repeats(coded: Coded, quantizer: Quantizer, scale: Doubles, zero_point: Doubles) -> bool:
    """Whether quantizing `coded` again leaves every code as it is."""
    nearest: Rounding = "ROUND"
    return (
        coded.grid == quantizer.grid
        and quantizer.rounding == nearest
        and np.array_equal(coded.scale, scale)
        and np.array_equal(coded.zero_point, zero_point)
    )


def relu(context: Context, node: Node) -> Value:
    return _clip(context, node, 0.0, np.inf)


def clip_node(context: Context, node: Node) -> Value:
    bounds = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        array = context.array(node, index)
        bounds.append(node.number(name, default) if array is None else scalar(node, array))
    return _clip(context, node, bounds[0], bounds[1])


def scalar(node: Node, array: NDArray[np.generic]) -> float:
    """A constant of one value; a `ModelError` for any other."""
    if array.size != 1:
        raise node.error(f"its constant has {array.size} values, not one")
    return float(np.ravel(array)[0])


def extremum(context: Context, node: Node) -> Value:
    """Min and Max of one computed value and constants."""
    low, high = -np.inf, np.inf
    constants = [i for i, name in enumerate(node.inputs) if context.constant(name) is not None]
    others = [index for index in range(len(node.inputs)) if index not in constants]
    if len(others) != 1:
        raise node.error("more than one of its inputs is computed at run time")
    for index in constants:
        bound = scalar(node, context.required(node, index))
        low, high = (max(low, bound), high) if node.op == "Max" else (low, min(high, bound))
    return _clip(context, node, low, high, others[0])


def _clip(context: Context, node: Node, low: float, high: float, index: int = 0) -> Value:
    if np.isnan([low, high]).any():
        raise node.error("its bounds are not numbers")
    low = min(low, high)  # ONNX: where the bounds cross, the upper one counts
    value = context.value(node, index, padded=low <= 0 <= high)
    if value.coded is not None and (coded := _clip_codes(value.coded, low, high, node.output)):
        return context.coded(node, value, coded)
    value = context.value(node, index)
    return context.elementwise(node, value, clip(value.expr, low, high))


def _clip_codes(coded: Coded, low: float, high: float, name: str) -> Coded | None:
    """The clip done on codes, where its bounds are codes (for a ReLU: the zero point is one)."""
    if coded.scale.size != 1 or coded.zero_point.size != 1 or coded.grid.bipolar:
        return None
    bounds = np.array([low, high]) / coded.scale[0] + coded.zero_point[0]
    if bounds[0] > coded.grid.high or bounds[1] < coded.grid.low:
        return None  # every code becomes a value that is none
    bounds = np.clip(bounds, coded.grid.low, coded.grid.high)
    if not np.array_equal(bounds, np.rint(bounds)):
        return None
    if bounds[0] == coded.grid.low and bounds[1] == coded.grid.high:
        expr = coded.expr
    else:
        expr = clip(coded.expr, float(bounds[0]), float(bounds[1]))
    return Coded(
        name=name, expr=expr, grid=coded.grid, scale=coded.scale, zero_point=coded.zero_point
    )


def batch_normalization(context: Context, node: Node) -> Value:
    if node.integer("training_mode", 0) or len(node.proto.output) > 1:
        raise node.error("it is in training mode", hint="Export the network in evaluation mode.")
    gamma, beta, mean, variance = (
        np.asarray(context.required(node, index), np.float64) for index in range(1, 5)
    )
    if len({part.shape for part in (gamma, beta, mean, variance)}) != 1:
        raise node.error("its parameters differ in shape")
    spread = variance + node.number("epsilon", 1e-5)
    if np.any(spread <= 0):
        raise node.error("its variance is negative")
    mul = gamma / np.sqrt(spread)
    add = beta - mean * mul
    value = context.operand(node, 0, mul, add)
    if mul.shape != add.shape or mul.size not in (1, value.shape[1]):
        raise node.error(f"its parameters do not fit {value.shape[1]} channels")
    return context.elementwise(node, value, affine(value.expr, mul, add))


HANDLERS: dict[str, Handler] = {
    "BatchNormalization": batch_normalization,
    "BipolarQuant": quant,
    "Clip": clip_node,
    "IntQuant": quant,
    "Max": extremum,
    "Min": extremum,
    "Quant": quant,
    "Relu": relu,
}
