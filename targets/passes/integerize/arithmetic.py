"""Sums, products and quotients: of a value and a constant, or of two values."""

from __future__ import annotations

import numpy as np

from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import Coded, Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import Doubles, affine
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Expr, Product, Sum
from mpqdeploy.targets.views import Axis, Resample


def add(context: Context, node: Node) -> Value:
    return _sum(context, node, 1.0)


def subtract(context: Context, node: Node) -> Value:
    return _sum(context, node, -1.0)


def _sum(context: Context, node: Node, sign: float) -> Value:
    """input 0 + sign * input 1; either may be constant."""
    first, second = (context.array_or_none(node, index) for index in (0, 1))
    if first is not None:
        value = context.operand(node, 1, first)
        offset = context.per_channel(node, first, value)
        return context.elementwise(node, value, affine(value.expr, sign, offset))
    if second is not None:
        value = context.operand(node, 0, second)
        offset = context.per_channel(node, second, value)
        return context.elementwise(node, value, affine(value.expr, 1.0, sign * offset))
    home, left, right = _together(context, node)
    reason = f"'{node.name}' adds values without quantizing the sum"
    return context.elementwise(node, home, Sum(x=left, y=affine(right, sign)), reason)


def _together(context: Context, node: Node) -> tuple[Value, Expr, Expr]:
    """Both inputs of `node` as expressions of one group; the first is a value of that group."""
    x, y = context.value(node, 0), context.value(node, 1)
    if x.group.shape != y.group.shape or x.shape != y.shape:
        x, y = _broadcast(context, node, x, y)
    group = context.builder.meet(x, y)
    left, right = context.builder.read(x, group), context.builder.read(y, group)
    return x if group is x.group else y, left, right


def _broadcast(context: Context, node: Node, x: Value, y: Value) -> tuple[Value, Value]:
    """Both with the shape of their result, where one channel or pixel stands for all."""
    x, y = context.image(node, 0), context.image(node, 1)
    if len(x.shape) == len(y.shape):
        shape = tuple(max(pair) for pair in zip(x.group.shape, y.group.shape, strict=True))
        whole = tuple(max(pair) for pair in zip(x.shape, y.shape, strict=True))
        fit = all(
            extent in (1, wanted)
            for value in (x, y)
            for extent, wanted in zip(value.shape, whole, strict=True)
        )
        if fit and x.shape[0] == y.shape[0] and len(whole) in (2, 4):
            return _spread(context, x, shape[1:], whole), _spread(context, y, shape[1:], whole)
    raise node.error(
        f"its inputs have shapes {list(x.shape)} and {list(y.shape)}",
        hint="Only axes of size 1 are broadcast, and never the batch.",
    )


def _spread(
    context: Context, value: Value, shape: tuple[int, ...], onnx_shape: tuple[int, ...]
) -> Value:
    source = value.group.shape[1:]
    if source == shape:
        return value
    rows, columns, channels = (
        Axis(step=int(have == want)) for have, want in zip(source, shape, strict=True)
    )
    view = Resample(
        shape=(shape[0], shape[1], shape[2]),
        source=source,
        rows=rows,
        columns=columns,
        channels=channels,
    )
    return moves.seen(context.builder, value, view, f"{value.name}_spread", onnx_shape)


def multiply(context: Context, node: Node) -> Value:
    for constant in (0, 1):
        array = context.array_or_none(node, constant)
        if array is not None:
            value = context.operand(node, 1 - constant, array)
            return _scale(context, node, value, context.per_channel(node, array, value))
    home, left, right = _together(context, node)
    reason = f"'{node.name}' multiplies two computed values"
    result = context.elementwise(node, home, Product(x=left, y=right), reason)
    context.fall_back(node, result.group, "both factors are computed at run time")
    return result


def divide(context: Context, node: Node) -> Value:
    divisor = context.array_or_none(node, 1)
    if divisor is None:
        raise node.error("its divisor is computed at run time")
    if np.any(divisor == 0):
        raise node.error("it divides by 0")
    value = context.operand(node, 0, divisor)
    return _scale(context, node, value, 1.0 / context.per_channel(node, divisor, value))


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
    "Div": divide,
    "Mul": multiply,
    "Neg": negate,
    "Sub": subtract,
}
