"""Activation functions. What integers cannot say is a float32 function in the epilogue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.elementwise import scalar
from mpqdeploy.targets.passes.integerize.expressions import affine, clip
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Apply, Expr, Function, Product, Softmax, Sum

AXES_ARE_SEPARATE = 13  # the opset from which Softmax no longer flattens its input


def _applied(function: Function) -> Handler:
    def handler(context: Context, node: Node) -> Value:
        value = context.value(node)
        return _float(context, node, value, Apply(x=value.expr, function=function))

    return handler


def _composed(expression: Callable[[Expr, Node], Expr]) -> Handler:
    def handler(context: Context, node: Node) -> Value:
        value = context.value(node)
        return _float(context, node, value, expression(value.expr, node))

    return handler


def _float(context: Context, node: Node, value: Value, expr: Expr) -> Value:
    why = f"integers have no {node.op}"
    result = context.elementwise(node, value, expr, f"{node.op} '{node.name}' is not quantized")
    context.fall_back(node, result.group, why)
    return result


def _hard_sigmoid(x: Expr, node: Node) -> Expr:
    return clip(affine(x, node.number("alpha", 0.2), node.number("beta", 0.5)), 0.0, 1.0)


def _hard_swish(x: Expr, node: Node) -> Expr:
    return Product(x=x, y=clip(affine(x, 1 / 6, 0.5), 0.0, 1.0))


def _elu(x: Expr, node: Node) -> Expr:
    below = affine(Apply(x=clip(x, -np.inf, 0.0), function="exp"), 1.0, -1.0)
    return Sum(x=clip(x, 0.0, np.inf), y=affine(below, node.number("alpha", 1.0)))


def hard_sigmoid(context: Context, node: Node) -> Value:
    value = context.value(node)
    return context.elementwise(node, value, _hard_sigmoid(value.expr, node))


def leaky_relu(context: Context, node: Node) -> Value:
    value = context.value(node)
    below = affine(clip(value.expr, -np.inf, 0.0), node.number("alpha", 0.01))
    return context.elementwise(node, value, Sum(x=clip(value.expr, 0.0, np.inf), y=below))


def prelu(context: Context, node: Node) -> Value:
    slope = context.required(node, 1)
    value = context.operand(node, 0, slope)
    below = affine(clip(value.expr, -np.inf, 0.0), context.per_channel(node, slope, value))
    return context.elementwise(node, value, Sum(x=clip(value.expr, 0.0, np.inf), y=below))


def absolute(context: Context, node: Node) -> Value:
    value = context.value(node)
    below = affine(clip(value.expr, -np.inf, 0.0), -1.0)
    return context.elementwise(node, value, Sum(x=clip(value.expr, 0.0, np.inf), y=below))


def power(context: Context, node: Node) -> Value:
    exponent = scalar(node, context.required(node, 1))
    value = context.value(node)
    if exponent == 0.5:
        return _float(context, node, value, Apply(x=value.expr, function="sqrt"))
    if exponent != 2:
        raise node.error(f"its exponent is {exponent:g}", hint="Supported are 2 and 0.5.")
    return _float(context, node, value, Product(x=value.expr, y=value.expr))


def softmax(context: Context, node: Node) -> Value:
    """Softmax and LogSoftmax over channels."""
    value = context.image(node)
    rank, opset = len(value.shape), context.model.get_opset_imports()[""]
    axis = node.integer("axis", 1 if opset < AXES_ARE_SEPARATE else -1) % rank
    _, height, width, _ = value.group.shape
    flattens = opset < AXES_ARE_SEPARATE and height * width > 1
    if axis != 1 or flattens:
        raise node.error(
            f"it normalizes axis {axis} of shape {list(value.shape)}",
            hint="Only axis 1, the channels, is supported.",
        )
    name = context.builder.write_float(value.group, value.expr, value.name)
    group = context.builder.group(value.group.shape, Softmax(input=name))
    group.add_sources(context.sources(node))
    context.fall_back(node, group, f"integers have no {node.op}")
    expr: Expr = Acc() if node.op == "Softmax" else Apply(x=Acc(), function="log")
    reason = f"{node.op} '{node.name}' is not quantized"
    return Value(name=node.output, shape=value.shape, group=group, expr=expr, reason=reason)


HANDLERS: dict[str, Handler] = {
    "Abs": absolute,
    "Elu": _composed(_elu),
    "Exp": _applied("exp"),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _composed(_hard_swish),
    "LeakyRelu": leaky_relu,
    "LogSoftmax": softmax,
    "PRelu": prelu,
    "Pow": power,
    "Sigmoid": _applied("sigmoid"),
    "Softmax": softmax,
    "Sqrt": _applied("sqrt"),
    "Tanh": _applied("tanh"),
}
