"""Nodes that become part of an epilogue: quantizers, activations, constants, additions."""

from __future__ import annotations

import numpy as np

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
from mpqdeploy.targets.program import Grid, Rounding, Sum


def quant(context: Context, node: Node) -> Value:
    """Quant and BipolarQuant of an activation."""
    value = context.value(node, padded=True)
    parameters = [context.array(node, index) for index in range(1, len(node.inputs))]
    quantizer = read_quantizer(node, parameters)
    scale = context.per_channel(node, quantizer.scale, value)
    zero_point = context.per_channel(node, quantizer.zero_point, value)
    if any(value.padding) and not _keeps_zero(quantizer.grid, zero_point):
        context.value(node)  # raises: the padded zeros would become something else
    if value.coded is not None and _repeats(value.coded, quantizer, scale, zero_point):
        return context.renamed(node, value, value.shape)
    expr = quantize(value.expr, scale, zero_point, quantizer.grid, quantizer.rounding)
    if quantizer.grid.bits > MAX_BITS:
        real = dequantize(expr, scale, zero_point)
        reason = f"Quant '{node.name}' is {quantizer.grid.bits} bits wide, more than {MAX_BITS}"
        return context.elementwise(node, context.value(node), real, reason)
    coded = Coded(
        name=node.output, expr=expr, grid=quantizer.grid, scale=scale, zero_point=zero_point
    )
    return context.coded(node, value, coded)


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
        bounds.append(node.number(name, default) if array is None else float(np.ravel(array)[0]))
    return _clip(context, node, bounds[0], bounds[1])


def _clip(context: Context, node: Node, low: float, high: float) -> Value:
    value = context.value(node, padded=low <= 0 <= high)
    if value.coded is not None and (coded := _clip_codes(value.coded, low, high, node.output)):
        return context.coded(node, value, coded)
    return context.elementwise(node, context.value(node), clip(value.expr, low, high))


def _clip_codes(coded: Coded, low: float, high: float, name: str) -> Coded | None:
    """The clip done on codes, where its bounds are codes (for a ReLU: the zero point is one)."""
    if coded.scale.size != 1 or coded.zero_point.size != 1 or coded.grid.bipolar:
        return None
    bounds = np.array([low, high]) / coded.scale[0] + coded.zero_point[0]
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
    value = context.value(node)
    if node.integer("training_mode", 0) or len(node.proto.output) > 1:
        raise node.error("it is in training mode", hint="Export the network in evaluation mode.")
    gamma, beta, mean, variance = (
        np.asarray(context.required(node, index), np.float64) for index in range(1, 5)
    )
    mul = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
    if value.shape[1] != value.channels and np.ptp(mul) + np.ptp(beta - mean * mul) > 0:
        raise node.error("it normalizes pixels of a flattened image differently")
    return context.elementwise(node, value, affine(value.expr, mul, beta - mean * mul))


def add(context: Context, node: Node) -> Value:
    return _sum(context, node, 1.0)


def subtract(context: Context, node: Node) -> Value:
    return _sum(context, node, -1.0)


def _sum(context: Context, node: Node, sign: float) -> Value:
    """input 0 + sign * input 1; either may be constant."""
    if context.constant(node.inputs[0]) is not None:
        value = context.value(node, 1)
        offset = context.per_channel(node, context.required(node, 0), value)
        return context.elementwise(node, value, affine(value.expr, sign, offset))
    value = context.value(node, 0)
    if context.constant(node.inputs[1]) is not None:
        offset = context.per_channel(node, context.required(node, 1), value)
        return context.elementwise(node, value, affine(value.expr, 1.0, sign * offset))
    return _sum_of_values(context, node, value, context.value(node, 1), sign)


def _sum_of_values(context: Context, node: Node, x: Value, y: Value, sign: float) -> Value:
    if x.group.shape != y.group.shape or x.shape != y.shape:
        raise node.error(
            f"its inputs have shapes {list(x.shape)} and {list(y.shape)}",
            hint="Only constants are broadcast.",
        )
    group = context.builder.meet(x, y)
    left, right = context.builder.read(x, group), context.builder.read(y, group)
    home = x if group is x.group else y
    reason = f"'{node.name}' adds values without quantizing the sum"
    return context.elementwise(node, home, Sum(x=left, y=affine(right, sign)), reason)


def multiply(context: Context, node: Node) -> Value:
    constant = next((index for index in (0, 1) if context.constant(node.inputs[index])), None)
    if constant is None:
        raise node.error("both its inputs are computed at run time")
    value = context.value(node, 1 - constant)
    return _scale(
        context, node, value, context.per_channel(node, context.required(node, constant), value)
    )


def divide(context: Context, node: Node) -> Value:
    value = context.value(node, 0)
    divisor = context.per_channel(node, context.required(node, 1), value)
    if np.any(divisor == 0):
        raise node.error("it divides by 0")
    return _scale(context, node, value, 1.0 / divisor)


def negate(context: Context, node: Node) -> Value:
    return _scale(context, node, context.value(node), np.full(1, -1.0))


def _scale(context: Context, node: Node, value: Value, factor: Doubles) -> Value:
    """A code that is scaled stays a code, unless its sign changes."""
    coded = value.coded
    if coded is None or np.any(factor <= 0):
        return context.elementwise(node, value, affine(value.expr, factor))
    scaled = Coded(
        name=node.output,
        expr=coded.expr,
        grid=coded.grid,
        scale=coded.scale * factor,
        zero_point=coded.zero_point,
    )
    return context.coded(node, value, scaled)


HANDLERS: dict[str, Handler] = {
    "Add": add,
    "BatchNormalization": batch_normalization,
    "BipolarQuant": quant,
    "Clip": clip_node,
    "Div": divide,
    "Mul": multiply,
    "Neg": negate,
    "Quant": quant,
    "Relu": relu,
    "Sub": subtract,
}
