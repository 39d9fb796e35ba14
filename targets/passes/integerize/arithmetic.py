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
    found = _constant(context, node)
    if found is not None:
        index, offset, value = found
        signs = (sign, 1.0) if index == 0 else (1.0, sign)
        return context.elementwise(node, value, affine(value.expr, signs[0], signs[1] * offset))
    home, left, right = _together(context, node)
    reason = f"'{node.name}' adds values without quantizing the sum"
    return context.elementwise(node, home, Sum(x=left, y=affine(right, sign)), reason)


def _constant(context: Context, node: Node) -> tuple[int, Doubles, Value] | None:
    """The constant input of `node`, its index and shape `[1]` or `[C]`, and the other input; None
    where both are computed, or the constant differs between pixels."""
    for index in (0, 1):
        array = context.array_or_none(node, index)
        if array is not None:
            value = context.operand(node, 1 - index, array)
            if not context.differs_between_pixels(array, value):
                return index, context.per_channel(node, array, value), value
    return None


def _operands(context: Context, node: Node) -> tuple[Value, Value]:
    """Both inputs of `node`, a constant as a value, too."""
    constants = [context.array_or_none(node, index) is not None for index in (0, 1)]
    if not any(constants):
        return context.value(node, 0), context.value(node, 1)
    index = constants.index(True)
    value = context.image(node, 1 - index)
    given = context.given(node, index, value.shape)
    return (given, value) if index == 0 else (value, given)


def _together(context: Context, node: Node) -> tuple[Value, Expr, Expr]:
    """Both inputs of `node` as expressions of one group; the first is a value of that group."""
    x, y = _operands(context, node)
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
    found = _constant(context, node)
    if found is not None:
        _, factor, value = found
        return _scale(context, node, value, factor)
    home, left, right = _together(context, node)
    reason = f"'{node.name}' multiplies two computed values"
    result = context.elementwise(node, home, Product(x=left, y=right), reason)
    why = "one factor differs between pixels"
    if all(name in context.values for name in node.inputs):
        why = "both factors are computed at run time"
    context.fall_back(node, result.group, why)
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
