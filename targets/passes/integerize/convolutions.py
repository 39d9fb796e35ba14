"""Convolutions and matrix products, the anchors with weights.

On integer codes wherever input and weights are codes; else in float32, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.builder import Coded, Value, onnx_shape_of
from mpqdeploy.targets.passes.integerize.codes import input_code, why_no_code
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import Doubles, affine
from mpqdeploy.targets.passes.integerize.quantizers import MAX_BITS, Codes
from mpqdeploy.targets.passes.integerize.windows import Window, window
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Anchor, Conv, FloatConv

Array = NDArray[np.generic]
FEW_CHANNELS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """Weights `[O, I/groups, KH, KW]` (or `[O, I]`): values, and codes if there are any, which are
    moved and scaled alike.
    """

    values: Doubles
    codes: Codes | None

    def moved(self, move: Callable[[Array], Array]) -> Weights:
        codes = self.codes and Codes(
            values=np.asarray(move(self.codes.values), np.int32),
            scale=np.asarray(move(self.codes.scale), np.float64),
            grid=self.codes.grid,
        )
        return Weights(values=np.asarray(move(self.values), np.float64), codes=codes)

    def scaled(self, factor: float) -> Weights:
        codes = self.codes and replace(self.codes, scale=self.codes.scale * factor)
        return Weights(values=self.values * factor, codes=codes)


def conv(context: Context, node: Node) -> Value:
    value = context.image(node, padded=True)
    weights = weights_of(context, node)
    rank = len(value.shape)
    if weights.values.ndim != rank or rank not in (3, 4):
        raise node.error(
            f"its input has shape {list(value.shape)}, its weights {list(weights.values.shape)}",
            hint="Only 1-D and 2-D convolutions are supported.",
        )
    if rank == 3:
        weights = weights.moved(lambda array: array[:, :, None])
    groups = node.integer("group", 1)
    out, inner, height, width = weights.values.shape
    if groups < 1 or value.channels != inner * groups or out % groups:
        raise node.error(
            f"weights {list(weights.values.shape)} in {groups} groups do not fit "
            f"{value.channels} input channels"
        )
    if node.pair("kernel_shape", (height, width), rank) != (height, width):
        raise node.error(f"its kernel_shape is not that of its weights, {[height, width]}")
    where = window(node, value, (height, width))
    bias = one_each(node, context.array(node, 2), out)
    return convolution(context, node, value, weights, where, groups=groups, bias=bias)


def one_each(node: Node, bias: Array | None, out: int) -> Array | None:
    """The bias of a convolution; a `ModelError` unless it is one number for each output channel."""
    if bias is not None and bias.shape != (out,):
        raise node.error(f"its bias has shape {list(bias.shape)} for {out} output channels")
    return bias


def gemm(context: Context, node: Node) -> Value:
    """alpha * x @ W + beta * bias."""
    if node.integer("transA", 0):
        raise node.error("transA is not supported")
    weights = _matrix(context, node)
    if not node.integer("transB", 0):
        weights = weights.moved(np.transpose)
    bias = context.array(node, 2)
    scaled = None if bias is None else np.asarray(bias, np.float64) * node.number("beta", 1.0)
    return _fully_connected(context, node, weights.scaled(node.number("alpha", 1.0)), scaled)


def matmul(context: Context, node: Node) -> Value:
    """x @ W: what `products.py` leaves to a convolution."""
    return _fully_connected(context, node, _matrix(context, node).moved(np.transpose), None)


def _matrix(context: Context, node: Node) -> Weights:
    weights = weights_of(context, node)
    if weights.values.ndim != 2:
        raise node.error(f"its weights have {weights.values.ndim} axes, not two")
    return weights


def _fully_connected(context: Context, node: Node, weights: Weights, bias: Array | None) -> Value:
    """A convolution whose kernel covers its input; weights `[O, C*H*W]`."""
    value = context.value(node)
    if value.channels < FEW_CHANNELS:  # stored as that many: as features they take less
        value = context.image(node)
    batch, height, width, channels = value.group.shape
    features = channels * height * width
    if value.shape != (batch, features) or weights.values.shape[1:] != (features,):
        raise node.error(
            f"weights {list(weights.values.shape)} do not fit an input of shape "
            f"{list(value.shape)}",
            hint="A fully connected layer takes a flat input [N, features].",
        )
    if value.coded is None and value.mean_of is not None and not why_no_code(value.mean_of):
        return _mean_connected(context, node, value, value.mean_of, weights, bias)
    shape = (weights.values.shape[0], channels, height, width)
    kernel = weights.moved(lambda array: array.reshape(shape))
    return convolution(context, node, value, kernel, _covering(height, width), bias=bias, flat=True)


def _mean_connected(
    context: Context, node: Node, mean: Value, image: Value, weights: Weights, bias: Array | None
) -> Value:
    """A mean that no quantizer rounds is no code; every pixel gets the weights of the mean."""
    _, height, width, channels = image.group.shape
    shape = (weights.values.shape[0], channels, height, width)
    spread = weights.scaled(1 / (height * width)).moved(
        lambda array: np.broadcast_to(array[:, :, None, None], shape)
    )
    where = _covering(height, width)
    result = convolution(context, node, image, spread, where, bias=bias, flat=True)
    result.group.add_sources(mean.group.sources)
    return result


def _covering(height: int, width: int) -> Window:
    return Window(
        kernel=(height, width),
        stride=(1, 1),
        dilation=(1, 1),
        padding=(0, 0, 0, 0),
        output=(1, 1),
    )


def weights_of(context: Context, node: Node) -> Weights:
    """The constant second input of `node`; a `ModelError` where it is computed at run time."""
    values = np.asarray(context.required(node, 1), np.float64)
    constant = context.constant(node.inputs[1])
    return Weights(values=values, codes=constant.codes if constant else None)


def convolution(
    context: Context,
    node: Node,
    value: Value,
    weights: Weights,
    where: Window,
    *,
    groups: int = 1,
    bias: Array | None = None,
    flat: bool = False,
) -> Value:
    """Weights `[O, I/groups, KH, KW]`, bias of up to `[O]`."""
    out = weights.values.shape[0]
    offset = np.zeros(1) if bias is None else np.asarray(bias, np.float64).reshape(-1)
    sizes = np.shape(offset if bias is None else bias)
    if offset.size not in (1, out) or offset.size != (sizes or (1,))[-1]:
        raise node.error(f"its bias has shape {list(sizes)} for {out} output channels")
    why = _why_float(value, weights, out, groups)
    if why:
        anchor, scale = _on_floats(context, value, weights, where, groups), np.ones(1)
    else:
        anchor, scale = _on_codes(context, node, value, weights, where, groups)
    shape = (value.group.shape[0], *where.output, out)
    group = context.builder.group(shape, anchor)
    group.add_sources(context.sources(node))
    if why:
        context.fall_back(node, group, why)
    onnx_shape = onnx_shape_of(shape, 2 if flat else len(value.shape))
    reason = f"'{node.name}' is not followed by a quantizer"
    expr = affine(Acc(), scale, offset)
    return Value(name=node.output, shape=onnx_shape, group=group, expr=expr, reason=reason)


def _on_codes(
    context: Context, node: Node, value: Value, weights: Weights, where: Window, groups: int
) -> tuple[Anchor, Doubles]:
    """The anchor, and the scale of its accumulator."""
    name, coded = input_code(context, node, value)
    codes = weights.codes
    if codes is None:
        raise node.error("its weights are no codes")
    anchor = Conv(
        input=name,
        weights=np.ascontiguousarray(codes.values.transpose(0, 2, 3, 1)),
        weight_grid=codes.grid,
        stride=where.stride,
        padding=where.padding,
        dilation=where.dilation,
        groups=groups,
    )
    return anchor, _output_scale(codes) * _input_scale(coded, len(codes.values), groups)


def _on_floats(
    context: Context, value: Value, weights: Weights, where: Window, groups: int
) -> Anchor:
    return FloatConv(
        input=context.builder.write_float(value.group, value.expr, value.name),
        weights=np.ascontiguousarray(weights.values.transpose(0, 2, 3, 1), np.float32),
        stride=where.stride,
        padding=where.padding,
        dilation=where.dilation,
        groups=groups,
    )


def _why_float(value: Value, weights: Weights, out: int, groups: int) -> str:
    """Why integers cannot compute it; empty where they can."""
    why = why_no_code(value)
    if why or value.coded is None:
        return why
    if weights.codes is None:
        return f"its weights are not integer codes of at most {MAX_BITS} bits"
    rows = weights.codes.scale.reshape(out, -1)
    if not np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape)):
        return "the scale of its weights differs within an output channel"
    if value.coded.scale.size not in (1, groups):
        return "its input has a scale for every channel"
    return ""


def _output_scale(codes: Codes) -> Doubles:
    """The weights' scale as `[O]`."""
    return codes.scale.reshape(codes.scale.shape[0], -1)[:, 0]


def _input_scale(coded: Coded, out: int, groups: int) -> Doubles:
    """The input's scale as `[1]`, or `[O]` in a depthwise convolution."""
    return coded.scale if coded.scale.size == 1 else np.repeat(coded.scale, out // groups)


HANDLERS: dict[str, Handler] = {
    "Conv": conv,
    "Gemm": gemm,
}
