"""Softmax, LogSoftmax and LayerNormalization: float32 anchors over the channels of a pixel.

The axes that are normalized become channels, whichever they are in the file: by a view, and the
result is seen through the opposite one. Views that meet those of a product of tokens
(`passes/tokens.py`) are gone with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.dialects import AXES_ARE_SEPARATE
from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import Value, logical_shape
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import affine
from mpqdeploy.targets.passes.integerize.shapes import axis_of
from mpqdeploy.targets.passes.node import Node, unused
from mpqdeploy.targets.program import Acc, Anchor, Apply, Expr, Normalization, Softmax
from mpqdeploy.targets.views import Reindex

EPSILON = 1e-5  # LayerNormalization's, where none is given


@dataclass(frozen=True)
class _Axes:
    """What is normalized of an ONNX `shape`: the axes from `start` on, before `stop`."""

    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def normalized(self) -> tuple[int, ...]:
        return self.shape[self.start : self.stop]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Elements between the batch and these axes, of these, and behind them."""
        before, behind = self.shape[1 : self.start], self.shape[self.stop :]
        return math.prod(before), math.prod(self.normalized), math.prod(behind)


def softmax(context: Context, node: Node) -> Value:
    value, opset = context.value(node), context.model.get_opset_imports()[""]
    rank = len(value.shape)
    axis = axis_of(node, node.integer("axis", 1 if opset < AXES_ARE_SEPARATE else -1), rank)
    axes = _Axes(value.shape, axis, rank if opset < AXES_ARE_SEPARATE else axis + 1)
    expr: Expr = Acc() if node.op == "Softmax" else Apply(x=Acc(), function="log")
    return _over(context, node, value, axes, lambda name: Softmax(input=name), expr)


def layer_normalization(context: Context, node: Node) -> Value:
    value = context.value(node)
    rank = len(value.shape)
    axes = _Axes(value.shape, axis_of(node, node.integer("axis", -1), rank), rank)
    scale, bias = context.required(node, 1), context.array(node, 2)
    zeros = np.zeros(1, np.float32)
    added = _flat(zeros if bias is None else bias, axes.normalized)
    expr = affine(Acc(), _flat(scale, axes.normalized), added)
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
    axes: _Axes,
    anchor: Callable[[str], Anchor],
    expr: Expr,
) -> Value:
    """`expr` of an anchor, given its input's name, over these axes of `value`."""
    if axes.start == 0:
        raise node.error("it normalizes the batch, too", hint="Its axis has to be 1 or more.")
    builder = context.builder
    before, features, behind = axes.sizes
    if before > 1 or value.channels != features:
        into = Reindex(
            shape=(1, before * behind, features),
            source=value.group.shape[1:],
            extents=axes.sizes,
            order=(1, 0, 2),
        )
        image = (axes.shape[0], features, before * behind)
        # What has a name of the file is compared with that (`verify`).
        inner = unused(context.model, f"{node.output}_features_first")
        value = moves.seen(builder, value, into, inner, image)
    name = builder.write_float(value.group, value.expr, value.name)
    group = builder.group(value.group.shape, anchor(name))
    group.add_sources(context.sources(node))
    context.fall_back(node, group, f"integers have no {node.op}")
    reason = f"{node.op} '{node.name}' is not quantized"
    if before == 1:  # in the file's order already
        return Value(name=node.output, shape=axes.shape, group=group, expr=expr, reason=reason)
    result = Value(name=value.name, shape=value.shape, group=group, expr=expr, reason=reason)
    back = Reindex(
        shape=logical_shape(axes.shape)[1:],
        source=group.shape[1:],
        extents=(features, before, behind),
        order=(1, 0, 2),
    )
    return moves.seen(builder, result, back, node.output, axes.shape)


HANDLERS: dict[str, Handler] = {
    "LayerNormalization": layer_normalization,
    "LogSoftmax": softmax,
    "Softmax": softmax,
}
