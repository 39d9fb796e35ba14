"""Nodes that move elements but do not change them: flatten, reshape, slice, pad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import (
    Coded,
    Group,
    Value,
    coded_value,
    rebuild,
)
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Affine, Clip, Expr, Load, Quant, Sum


def identity(context: Context, node: Node) -> Value:
    value = context.value(node, padded=True)
    return context.renamed(node, value, value.shape)


def dropout(context: Context, node: Node) -> Value:
    training = context.array(node, 2)
    if training is not None and bool(np.any(training)):
        raise node.error("it is in training mode", hint="Export the network in evaluation mode.")
    return identity(context, node)


def reshape(context: Context, node: Node) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze between [N, C, H, W] and [N, C*H*W]."""
    value = context.value(node)
    shape = tuple(context.model.get_tensor_shape(node.output) or ())
    batch, height, width, channels = value.group.shape
    if shape not in ((batch, channels, height, width), (batch, channels * height * width)):
        raise node.error(
            f"it changes shape {list(value.shape)} to {list(shape)}",
            hint="Only images [N, C, H, W] and their flat form [N, C*H*W] are supported.",
        )
    return context.renamed(node, value, shape)


def transpose(context: Context, node: Node) -> Value:
    """A transpose that moves only axes of size 1, which is a reshape."""
    value = context.value(node)
    order = node.integers("perm", tuple(range(len(value.shape)))[::-1])
    moved = [axis for axis in order if value.shape[axis] != 1]
    if moved != sorted(moved):
        raise node.error(
            f"it reorders the axes of shape {list(value.shape)} to {list(order)}",
            hint="Export the network with images as [N, C, H, W].",
        )
    return reshape(context, node)


def slice_node(context: Context, node: Node) -> Value:
    """Every s-th row and column from the first on: a strided `Load`."""
    value = context.value(node)
    starts, ends, axes, steps = _slice_parameters(context, node, len(value.shape))
    stride = [1, 1]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        extent = value.shape[axis]
        if start % extent != 0 or (0 <= end < extent) or end < 0 or step < 1:
            raise node.error(f"it takes a part of axis {axis}, not evenly spaced whole rows")
        if step > 1 and (axis < 2 or len(value.shape) != 4):
            raise node.error(f"it takes every {step}-th element of axis {axis}")
        if step > 1:
            stride[axis - 2] = step
    batch, height, width, channels = value.group.shape
    shape = (batch, -(-height // stride[0]), -(-width // stride[1]), channels)
    if shape == value.group.shape:
        return context.renamed(node, value, value.shape)
    return _view(context, node, value, shape, (stride[0], stride[1]), 0)


def _slice_parameters(context: Context, node: Node, rank: int) -> tuple[list[int], ...]:
    if node.has("starts"):  # before opset 10
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes, steps = node.integers("axes", range(len(starts))), (1,) * len(starts)
    else:
        starts = tuple(np.ravel(context.required(node, 1)).tolist())
        ends = tuple(np.ravel(context.required(node, 2)).tolist())
        given = [context.array(node, index) for index in (3, 4)]
        axes = tuple(range(len(starts)) if given[0] is None else np.ravel(given[0]).tolist())
        steps = tuple([1] * len(starts) if given[1] is None else np.ravel(given[1]).tolist())
    return list(starts), list(ends), [axis % rank for axis in axes], list(steps)


def pad(context: Context, node: Node) -> Value:
    """Zero channels (a `Load` with an offset), or a zero border for the next convolution."""
    value = context.value(node, padded=True)
    rank = len(value.shape)
    before, after = _pad_parameters(context, node, rank)
    if before[0] or after[0] or min(*before, *after) < 0:
        raise node.error("it pads the batch or crops")
    if before[1] or after[1]:
        if any(value.padding) or rank != 4 or any(before[2:] + after[2:]):
            raise node.error("it pads channels and pixels; split it into two nodes")
        batch, height, width, channels = value.group.shape
        shape = (batch, height, width, before[1] + channels + after[1])
        return _view(context, node, value, shape, (1, 1), before[1])
    if rank != 4:
        return context.renamed(node, value, value.shape)
    top, left, bottom, right = value.padding
    padding = (top + before[2], left + before[3], bottom + after[2], right + after[3])
    batch, channels, height, width = value.shape
    widened = (batch, channels, height + before[2] + after[2], width + before[3] + after[3])
    return replace(context.renamed(node, value, widened), padding=padding)


def _pad_parameters(context: Context, node: Node, rank: int) -> tuple[list[int], list[int]]:
    mode = node.text("mode", "constant")
    pads = context.array(node, 1)
    flat = node.integers("pads", ()) if pads is None else tuple(np.ravel(pads).tolist())
    fill = context.array(node, 2)
    number = node.number("value", 0.0) if fill is None else float(np.ravel(fill)[0])
    if mode != "constant" or number != 0:
        raise node.error(f"mode {mode} with value {number:g}; only zeros are supported")
    axes = context.array(node, 3)
    chosen = range(rank) if axes is None else [int(axis) % rank for axis in np.ravel(axes)]
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(chosen):
        before[axis], after[axis] = int(flat[index]), int(flat[len(flat) // 2 + index])
    return before, after


def _view(
    context: Context,
    node: Node,
    value: Value,
    shape: tuple[int, int, int, int],
    stride: tuple[int, int],
    offset: int,
) -> Value:
    """A new group that reads every `stride`-th pixel, its channels moved up by `offset`."""
    batch, height, width, channels = shape
    onnx_shape = (batch, channels, height, width)
    padded = channels != value.channels
    group = context.builder.group(shape, None)
    coded = value.coded
    has_zero = coded is not None and not (padded and coded.grid.bipolar)
    if coded is not None and has_zero and coded.scale.size == coded.zero_point.size == 1:
        code = _moved(_code(context, value, coded, group, padded=padded), stride, offset)
        group.add_sources(context.sources(node))
        view = replace(coded, name=node.output, expr=code)
        return coded_value(node.output, onnx_shape, group, view)
    expr = context.builder.read(value, group)
    if padded and not _is_zero_outside(context, expr):
        expr = Load(tensor=context.builder.write_float(value.group, value.expr, value.name))
    group.add_sources(context.sources(node))
    expr = _moved(expr, stride, offset)
    return Value(name=node.output, shape=onnx_shape, group=group, expr=expr)


def _code(context: Context, value: Value, coded: Coded, group: Group, *, padded: bool) -> Expr:
    """The code of `value` as `group` gets it: a load, or computed from loads."""
    if isinstance(coded.expr, Load) or (context.builder.moves(value) and not padded):
        group.add_sources(value.group.sources)
        return coded.expr
    return Load(tensor=context.builder.write_codes(value.group, coded))


def _is_zero_outside(context: Context, expr: Expr) -> bool:
    """Whether channels outside the loaded tensor, which read as zero points, come out as 0."""
    if isinstance(expr, Load):
        return bool(np.all(context.builder.tensors[expr.tensor].zero_point == 0))
    if isinstance(expr, Affine) and isinstance(expr.x, Load):
        zero = context.builder.tensors[expr.x.tensor].zero_point.astype(np.float64)
        uniform = expr.mul.size == expr.add.size == zero.size == 1
        return uniform and bool(abs(expr.mul[0] * zero[0] + expr.add[0]) <= 1e-6 * expr.mul[0])
    return False


def _moved(expr: Expr, stride: tuple[int, int], offset: int) -> Expr:
    """`expr` with every load strided and shifted."""
    if isinstance(expr, Load):
        down, across = expr.stride
        return Load(
            tensor=expr.tensor,
            stride=(down * stride[0], across * stride[1]),
            channel_offset=expr.channel_offset + offset,
        )
    if isinstance(expr, Sum):
        return Sum(x=_moved(expr.x, stride, offset), y=_moved(expr.y, stride, offset))
    if isinstance(expr, Quant):
        x = _moved(expr.x, stride, offset)
        return Quant(x=x, grid=expr.grid, rounding=expr.rounding)
    if isinstance(expr, Affine | Clip):
        return rebuild(expr, _moved(expr.x, stride, offset))
    return expr


HANDLERS: dict[str, Handler] = {
    "Dropout": dropout,
    "Flatten": reshape,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": slice_node,
    "Squeeze": reshape,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
