"""Softmax, LogSoftmax and LayerNormalization: float32 anchors over the channels of a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.dialects import AXES_ARE_SEPARATE
from mpqdeploy.targets.passes.integerize.builder import Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import affine
from mpqdeploy.targets.passes.integerize.reals import Axes, in_rows, out_of_rows
from mpqdeploy.targets.passes.integerize.shapes import axis_of
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Anchor, Apply, Expr, Normalization, Softmax

EPSILON = 1e-5  # LayerNormalization's, where none is given


def softmax(context: Context, node: Node) -> Value:
    value, opset = context.value(node), context.model.get_opset_imports()[""]
    rank = len(value.shape)
    axis = axis_of(node, node.integer("axis", 1 if opset < AXES_ARE_SEPARATE else -1), rank)
    axes = Axes(value.shape, axis, rank if opset < AXES_ARE_SEPARATE else axis + 1)
    expr: Expr = Acc() if node.op == "Softmax" else Apply(x=Acc(), function="log")
    return _over(context, node, value, axes, lambda name: Softmax(input=name), expr)


def layer_normalization(context: Context, node: Node) -> Value:
    value = context.value(node)
    rank = len(value.shape)
    axes = Axes(value.shape, axis_of(node, node.integer("axis", -1), rank), rank)
    scale, bias = context.required(node, 1), context.array(node, 2)
    zeros = np.zeros(1, np.float32)
    added = _flat(zeros if bias is None else bias, axes.kept)
    expr = affine(Acc(), _flat(scale, axes.kept), added)
    epsilon = node.number("epsilon", EPSILON)
    if not 0 <= epsilon < math.inf:
        raise node.error(f"its epsilon is {epsilon:g}")
    return _over(
        context, node, value, axes, lambda name: Normalization(input=name, epsilon=epsilon), expr
    )


def _flat(array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A scale or bias, one for every normalized element in order; ValueError where it does not
    fit."""
    if array.ndim > len(shape):  # leading axes of size 1
        array = array.reshape(array.shape[array.ndim - len(shape) :])
    return np.broadcast_to(array, shape).reshape(-1)


def _over(
    context: Context,
    node: Node,
    value: Value,
    axes: Axes,
    anchor: Callable[[str], Anchor],
    expr: Expr,
) -> Value:
    """`expr` of an anchor, given its input's name, over these axes of `value`."""
    if axes.start == 0:
        raise node.error("it normalizes the batch, too", hint="Its axis has to be 1 or more.")
    (before, features, _), shape = axes.sizes, value.group.shape
    if before > 1 or value.channels != features:
        name, shape = in_rows(context, node, value, axes, "features_first"), axes.rows
    else:
        name = context.builder.write_float(value.group, value.expr, value.name)
    group = context.builder.group(shape, anchor(name))
    group.add_sources(context.sources(node))
    context.fall_back(node, group, f"integers have no {node.op}")
    reason = f"{node.op} '{node.name}' is not quantized"
    result = Value(name=node.output, shape=axes.shape, group=group, expr=expr, reason=reason)
    # Behind the batch they are in the file's order already.
    return result if before == 1 else out_of_rows(context, node, result, axes)


HANDLERS: dict[str, Handler] = {
    "LayerNormalization": layer_normalization,
    "LogSoftmax": softmax,
    "Softmax": softmax,
}
