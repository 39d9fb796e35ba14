"""Pools: maxima and sums of codes; the divisor of a mean is in the epilogue."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import (
    Coded,
    Group,
    Value,
    coded_value,
    onnx_shape_of,
)
from mpqdeploy.targets.passes.integerize.codes import INT32_MAX, largest, why_no_code
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import affine
from mpqdeploy.targets.passes.integerize.windows import Window, window
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Pool

PoolKind = Literal["max", "sum", "mean"]


def max_pool(context: Context, node: Node) -> Value:
    value = context.image(node, padded=True)
    where = _window(node, value)
    if any(value.padding) and not _zero_is_least(value, where):
        value = context.image(node)  # else a padded zero would not win over negative values
        where = window(node, value, where.kernel)
    _check_windows(node, value, where)
    return _max(context, node, value, where)


def _window(node: Node, value: Value) -> Window:
    where = window(node, value, node.pair("kernel_shape", (), len(value.shape)))
    if where.dilation != (1, 1):
        raise node.error("dilations are not supported")
    return where


def _check_windows(node: Node, value: Value, where: Window) -> None:
    """Every window has to have a pixel."""
    _, height, width, _ = value.group.shape
    for axis, extent in enumerate((height, width)):
        first, reach = where.padding[axis], where.kernel[axis]
        last = (where.output[axis] - 1) * where.stride[axis] - first
        if first >= reach or last >= extent:
            raise node.error("some of its windows lie in the padding altogether")


def _zero_is_least(value: Value, where: Window) -> bool:
    """Whether a maximum may ignore padded zeros: every window has a pixel, none is negative."""
    top, left, bottom, right = where.padding
    inside = max(top, bottom) < where.kernel[0] and max(left, right) < where.kernel[1]
    coded = value.coded
    return inside and coded is not None and bool(np.all(coded.zero_point == coded.grid.low))


def global_max_pool(context: Context, node: Node) -> Value:
    value = context.image(node)
    return _max(context, node, value, _everything(node, value))


def _max(context: Context, node: Node, value: Value, where: Window) -> Value:
    group, coded = _pool(context, node, value, where, "max")
    if coded is None:
        reason = f"'{node.name}' is the maximum of floats"
        return Value(
            name=node.output,
            shape=onnx_shape_of(group.shape, len(value.shape)),
            group=group,
            expr=Acc(),
            reason=reason,
        )
    best = Coded(
        name=node.output,
        expr=Acc(),
        grid=coded.grid,
        scale=coded.scale,
        zero_point=coded.zero_point,
    )
    return coded_value(node.output, onnx_shape_of(group.shape, len(value.shape)), group, best)


def average_pool(context: Context, node: Node) -> Value:
    value = context.image(node, padded=True)
    where = _window(node, value)
    own = tuple(whole - pad for whole, pad in zip(where.padding, value.padding, strict=True))
    if node.integer("ceil_mode", 0) and any(own) and node.integer("count_include_pad", 0):
        raise node.error("ceil_mode that counts padding is not supported")
    if not any(own) or node.integer("count_include_pad", 0):
        return _average(context, node, value, where)
    value = context.image(node)  # a Pad node's zeros count, its own do not
    where = window(node, value, where.kernel)
    _check_windows(node, value, where)
    return _average(context, node, value, where, kind="mean")


def global_average_pool(context: Context, node: Node) -> Value:
    value = context.image(node)
    return _average(context, node, value, _everything(node, value))


def reduce_mean(context: Context, node: Node) -> Value:
    """The mean over height and width."""
    value = context.image(node)
    chosen = node.integers("axes", ()) or context.integers(node, 1, ())
    rank = len(value.shape)
    if rank not in (3, 4) or sorted(axis % rank for axis in chosen) != list(range(2, rank)):
        raise node.error(f"it reduces axes {list(chosen)}; only height and width are supported")
    result = _average(context, node, value, _everything(node, value))
    if node.integer("keepdims", 1):
        return result
    return context.renamed(node, result, result.shape[:2])


def _everything(node: Node, value: Value) -> Window:
    if len(value.shape) not in (3, 4):
        raise node.error(f"its input has shape {list(value.shape)}, not [N, C, H, W] or [N, C, L]")
    size = (value.group.shape[1], value.group.shape[2])
    return Window(kernel=size, stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), output=(1, 1))


def _average(
    context: Context, node: Node, value: Value, where: Window, kind: PoolKind = "sum"
) -> Value:
    group, coded = _pool(context, node, value, where, kind)
    area = where.kernel[0] * where.kernel[1]
    whole = where.kernel == value.group.shape[1:3] and not any(where.padding)
    bound = area * largest(coded.grid, coded.zero_point) if coded else 0
    if bound > INT32_MAX:
        raise node.error(f"its sum may reach {bound}, past the range of int32")
    scale = coded.scale if coded else np.ones(1)
    return Value(
        name=node.output,
        shape=onnx_shape_of(group.shape, len(value.shape)),
        group=group,
        expr=affine(Acc(), scale / area if kind == "sum" else scale),
        reason=f"'{node.name}' averages codes without quantizing the mean",
        mean_of=value if whole else None,
    )


def _pool(
    context: Context, node: Node, value: Value, where: Window, kind: PoolKind
) -> tuple[Group, Coded | None]:
    """The group of the pool, over codes where there are any, else over floats."""
    why, coded = why_no_code(value), value.coded
    if kind == "max" and coded is not None:
        why = ""  # the order of codes does not depend on zero points
    if coded is None or why:
        coded, name = None, context.builder.write_float(value.group, value.expr, value.name)
    else:
        name = context.builder.write_codes(value.group, coded)
    anchor = Pool(
        input=name,
        kind=kind,
        kernel=where.kernel,
        stride=where.stride,
        padding=where.padding,
    )
    batch, _, _, channels = value.group.shape
    group = context.builder.group((batch, *where.output, channels), anchor)
    group.add_sources(context.sources(node))
    if coded is None:
        context.fall_back(node, group, why)
    return group, coded


HANDLERS: dict[str, Handler] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
    "ReduceMean": reduce_mean,
}
