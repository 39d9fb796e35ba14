"""Pools: maxima and sums of codes; the divisor of a mean is in the epilogue."""

from __future__ import annotations

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Coded, Group, Value, coded_value
from mpqdeploy.targets.passes.integerize.codes import INT32_MAX, input_code, largest
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import affine
from mpqdeploy.targets.passes.integerize.windows import Window, window
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Pool


def max_pool(context: Context, node: Node) -> Value:
    if node.pair("dilations", (1, 1)) != (1, 1) or len(node.proto.output) > 1:
        raise node.error("dilations and the output of indices are not supported")
    value = context.value(node, padded=True)
    where = window(node, value, node.pair("kernel_shape", ()))
    if any(value.padding) and not _zero_is_least(value, where):
        context.value(node)  # raises: a padded zero would win over negative values
    return _max(context, node, value, where)


def _zero_is_least(value: Value, where: Window) -> bool:
    """Whether a maximum may ignore padded zeros: every window has a pixel, none is negative."""
    top, left, bottom, right = where.padding
    inside = max(top, bottom) < where.kernel[0] and max(left, right) < where.kernel[1]
    coded = value.coded
    return inside and coded is not None and bool(np.all(coded.zero_point == coded.grid.low))


def global_max_pool(context: Context, node: Node) -> Value:
    value = context.value(node)
    return _max(context, node, value, _everything(node, value))


def _max(context: Context, node: Node, value: Value, where: Window) -> Value:
    group, coded = _pool(context, node, value, where, "max")
    best = Coded(
        name=node.output,
        expr=Acc(),
        grid=coded.grid,
        scale=coded.scale,
        zero_point=coded.zero_point,
    )
    return coded_value(node.output, _nchw(group), group, best)


def average_pool(context: Context, node: Node) -> Value:
    value = context.value(node, padded=True)
    where = window(node, value, node.pair("kernel_shape", ()))
    if node.pair("dilations", (1, 1)) != (1, 1):
        raise node.error("dilations are not supported")
    own = tuple(whole - pad for whole, pad in zip(where.padding, value.padding, strict=True))
    if any(own) and not node.integer("count_include_pad", 0):
        raise node.error(
            "its windows at the border count fewer pixels",
            hint="Set count_include_pad=1, or pads=0.",
        )
    if node.integer("ceil_mode", 0) and any(own):
        raise node.error("ceil_mode with padding is not supported")
    return _average(context, node, value, where)


def global_average_pool(context: Context, node: Node) -> Value:
    value = context.value(node)
    return _average(context, node, value, _everything(node, value))


def reduce_mean(context: Context, node: Node) -> Value:
    """The mean over height and width."""
    value = context.value(node)
    axes = context.array(node, 1)
    chosen = node.integers("axes", ()) if axes is None else np.ravel(axes).tolist()
    if len(value.shape) != 4 or sorted(int(axis) % 4 for axis in chosen) != [2, 3]:
        raise node.error(f"it reduces axes {list(chosen)}; only height and width are supported")
    result = _average(context, node, value, _everything(node, value))
    if node.integer("keepdims", 1):
        return result
    return context.renamed(node, result, result.shape[:2])


def _everything(node: Node, value: Value) -> Window:
    if len(value.shape) != 4:
        raise node.error(f"its input has shape {list(value.shape)}, not [N, C, H, W]")
    size = (value.group.shape[1], value.group.shape[2])
    return Window(kernel=size, stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), output=(1, 1))


def _average(context: Context, node: Node, value: Value, where: Window) -> Value:
    group, coded = _pool(context, node, value, where, "sum")
    area = where.kernel[0] * where.kernel[1]
    whole = where.kernel == value.group.shape[1:3] and not any(where.padding)
    bound = area * largest(coded.grid, coded.zero_point)
    if bound > INT32_MAX:
        raise node.error(f"its sum may reach {bound}, past the range of int32")
    return Value(
        name=node.output,
        shape=_nchw(group),
        group=group,
        expr=affine(Acc(), coded.scale / area),
        reason=f"'{node.name}' averages codes without quantizing the mean",
        mean_of=value if whole else None,
    )


def _pool(
    context: Context, node: Node, value: Value, where: Window, kind: str
) -> tuple[Group, Coded]:
    name, coded = input_code(context, node, value)
    anchor = Pool(
        input=name,
        kind="max" if kind == "max" else "sum",
        kernel=where.kernel,
        stride=where.stride,
        padding=where.padding,
    )
    batch, _, _, channels = value.group.shape
    group = context.builder.group((batch, *where.output, channels), anchor)
    group.add_sources(context.sources(node))
    return group, coded


def _nchw(group: Group) -> tuple[int, ...]:
    batch, height, width, channels = group.shape
    return (batch, channels, height, width)


HANDLERS: dict[str, Handler] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
    "ReduceMean": reduce_mean,
}
