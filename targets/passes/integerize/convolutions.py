"""Convolutions and matrix products, the anchors with weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.builder import Coded, Value
from mpqdeploy.targets.passes.integerize.codes import INT32_MAX, input_code, largest
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import Doubles, affine
from mpqdeploy.targets.passes.integerize.quantizers import Codes
from mpqdeploy.targets.passes.integerize.windows import Window, window
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Conv


def conv(context: Context, node: Node) -> Value:
    value = context.value(node, padded=True)
    weights = weight_codes(context, node)
    if weights.values.ndim != 4:
        raise node.error(f"its weights have {weights.values.ndim} axes; only 2-D is supported")
    groups = node.integer("group", 1)
    out, inner, height, width = weights.values.shape
    if value.channels != inner * groups or out % groups:
        raise node.error(
            f"weights {list(weights.values.shape)} in {groups} groups do not fit "
            f"{value.channels} input channels"
        )
    where = window(node, value, (height, width))
    return _convolution(
        context, node, value, weights, where, groups=groups, bias=context.array(node, 2)
    )


def gemm(context: Context, node: Node) -> Value:
    """alpha * x @ W + beta * bias."""
    if node.integer("transA", 0):
        raise node.error("transA is not supported")
    weights = weight_codes(context, node)
    if not node.integer("transB", 0):
        weights = _transposed(weights)
    bias = context.array(node, 2)
    scaled = None if bias is None else np.asarray(bias, np.float64) * node.number("beta", 1.0)
    return _fully_connected(context, node, weights, scaled, node.number("alpha", 1.0))


def matmul(context: Context, node: Node) -> Value:
    weights = weight_codes(context, node)
    return _fully_connected(context, node, _transposed(weights), None, 1.0)


def _transposed(weights: Codes) -> Codes:
    return Codes(values=weights.values.T, scale=weights.scale.T, grid=weights.grid)


def _fully_connected(
    context: Context, node: Node, weights: Codes, bias: NDArray[np.generic] | None, alpha: float
) -> Value:
    """A convolution whose kernel covers its input; weights `[O, C*H*W]`."""
    value = context.value(node)
    batch, height, width, channels = value.group.shape
    features = channels * height * width
    if value.shape != (batch, features) or weights.values.shape[1:] != (features,):
        raise node.error(
            f"weights {list(weights.values.shape)} do not fit an input of shape "
            f"{list(value.shape)}",
            hint="A fully connected layer takes a flat input [N, features].",
        )
    if value.coded is None and value.mean_of is not None:
        return _mean_connected(context, node, value, value.mean_of, weights, bias, alpha)
    out = weights.values.shape[0]
    image = Codes(
        values=weights.values.reshape(out, channels, height, width),
        scale=(weights.scale * alpha).reshape(out, channels, height, width),
        grid=weights.grid,
    )
    return _convolution(context, node, value, image, _covering(height, width), bias=bias, flat=True)


def _mean_connected(
    context: Context,
    node: Node,
    mean: Value,
    image: Value,
    weights: Codes,
    bias: NDArray[np.generic] | None,
    alpha: float,
) -> Value:
    """A mean that no quantizer rounds is no code; every pixel gets the weights of the mean."""
    _, height, width, channels = image.group.shape
    shape = (weights.values.shape[0], channels, height, width)
    spread = Codes(
        values=np.broadcast_to(weights.values[:, :, None, None], shape),
        scale=np.broadcast_to((weights.scale * alpha / (height * width))[:, :, None, None], shape),
        grid=weights.grid,
    )
    where = _covering(height, width)
    result = _convolution(context, node, image, spread, where, bias=bias, flat=True)
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


def weight_codes(context: Context, node: Node) -> Codes:
    """The integer codes of `node`'s second input.

    Raises:
        ModelError: it is computed at run time, or has no quantizer of at most 8 bits.
    """
    constant = context.constant(node.inputs[1])
    if constant is None:
        raise node.error(f"its weights '{node.inputs[1]}' are computed at run time")
    if constant.codes is None:
        raise node.error(
            f"its weights '{node.inputs[1]}' are not integer codes of at most 8 bits",
            hint="Put a Quant or BipolarQuant node on the weights.",
        )
    return constant.codes


def _convolution(
    context: Context,
    node: Node,
    value: Value,
    weights: Codes,
    where: Window,
    *,
    groups: int = 1,
    bias: NDArray[np.generic] | None = None,
    flat: bool = False,
) -> Value:
    """Weights `[O, I/groups, KH, KW]`, bias of up to `[O]`."""
    name, coded = input_code(context, node, value)
    out = weights.values.shape[0]
    scale = _output_scale(node, weights, groups) * _input_scale(node, coded, out, groups)
    _check_range(node, weights.values, coded)
    anchor = Conv(
        input=name,
        weights=np.ascontiguousarray(weights.values.transpose(0, 2, 3, 1)),
        weight_grid=weights.grid,
        stride=where.stride,
        padding=where.padding,
        dilation=where.dilation,
        groups=groups,
    )
    shape = (value.group.shape[0], *where.output, out)
    group = context.builder.group(shape, anchor)
    group.add_sources(context.sources(node))
    offset = np.zeros(1) if bias is None else np.asarray(bias, np.float64).reshape(-1)
    if offset.size not in (1, out):
        raise node.error(f"its bias has {offset.size} values for {out} output channels")
    onnx_shape = (shape[0], out) if flat else (shape[0], out, *where.output)
    return Value(name=node.output, shape=onnx_shape, group=group, expr=affine(Acc(), scale, offset))


def _output_scale(node: Node, weights: Codes, groups: int) -> Doubles:
    """The weights' scale as `[O]`."""
    rows = weights.scale.reshape(weights.scale.shape[0], -1)
    if not np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape)):
        raise node.error("the scale of its weights differs within one output channel")
    return rows[:, 0]


def _input_scale(node: Node, coded: Coded, out: int, groups: int) -> Doubles:
    """The input's scale as `[1]`, or `[O]` in a depthwise convolution."""
    if coded.scale.size == 1:
        return coded.scale
    if groups != coded.scale.size:
        raise node.error(
            "its input has a scale for every channel",
            hint="Quantize activations with one scale for all channels.",
        )
    return np.repeat(coded.scale, out // groups)


def _check_range(node: Node, weights: NDArray[np.int32], coded: Coded) -> None:
    """Prove from the weights that no partial sum leaves int32."""
    sums = np.abs(weights.astype(np.int64)).reshape(weights.shape[0], -1).sum(axis=1)
    bound = int(sums.max(initial=0)) * largest(coded.grid, coded.zero_point)
    if bound > INT32_MAX:
        raise node.error(f"its accumulator may reach {bound}, past the range of int32")


HANDLERS: dict[str, Handler] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
}
