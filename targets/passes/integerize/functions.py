"""Activation functions. What integers cannot say is a float32 function in the epilogue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.elementwise import scalar
from mpqdeploy.targets.passes.integerize.expressions import affine, clip
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Apply, Expr, Function, Product, Sum

CUBIC = 0.044715  # of Gelu's approximation, Hendrycks and Gimpel, 2016


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


def _gelu(x: Expr, node: Node) -> Expr:
    """x times the normal distribution's probability of less, or what tanh makes of it."""
    approximation = node.text("approximate", "none")
    if approximation not in ("none", "tanh"):
        raise node.error(f"its approximation {approximation} is not known")
    if approximation == "none":
        probable: Expr = Apply(x=affine(x, np.sqrt(0.5)), function="erf")
    else:
        cube = Product(x=Product(x=x, y=x), y=affine(x, CUBIC))
        inner = affine(Sum(x=x, y=cube), np.sqrt(2 / np.pi))
        probable = Apply(x=inner, function="tanh")
    return Product(x=affine(x, 0.5), y=affine(probable, 1.0, 1.0))


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


HANDLERS: dict[str, Handler] = {
    "Abs": absolute,
    "Elu": _composed(_elu),
    "Erf": _applied("erf"),
    "Exp": _applied("exp"),
    "Gelu": _composed(_gelu),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _composed(_hard_swish),
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Pow": power,
    "Sigmoid": _applied("sigmoid"),
    "Sqrt": _applied("sqrt"),
    "Tanh": _applied("tanh"),
}
