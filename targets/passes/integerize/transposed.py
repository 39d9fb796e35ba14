"""ConvTranspose: a convolution of the input with zeros between its pixels.

That costs stride x stride as many products as need be, and takes every kernel that there is.
"""

from __future__ import annotations

from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import Padding, Value, onnx_shape_of
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.convolutions import (
    Array,
    Weights,
    convolution,
    one_each,
    weights_of,
)
from mpqdeploy.targets.passes.integerize.windows import Window
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.views import Axis, Resample


def conv_transpose(context: Context, node: Node) -> Value:
    value = context.image(node)
    rank, groups = len(value.shape), node.integer("group", 1)
    weights = _weights(context, node, value, groups)
    kernel = (weights.values.shape[2], weights.values.shape[3])
    if node.pair("kernel_shape", kernel, rank) != kernel:
        raise node.error(f"its kernel_shape is not that of its weights, {list(kernel)}")
    stride, dilation = (node.pair(name, (1, 1), rank) for name in ("strides", "dilations"))
    if min(*stride, *dilation) < 1:
        raise node.error(f"its strides are {list(stride)}, its dilations {list(dilation)}")
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    first, last = _pads(node, value, stride, spans)
    spread, padding = _spread(context, node, value, stride, spans, first, last)
    height, width = spread.group.shape[1:3]
    output = (
        height + padding[0] + padding[2] - spans[0] + 1,
        width + padding[1] + padding[3] - spans[1] + 1,
    )
    if min(output) < 1:
        raise node.error(f"its output has {output[0]} x {output[1]} pixels")
    where = Window(kernel=kernel, stride=(1, 1), dilation=dilation, padding=padding, output=output)
    bias = one_each(node, context.array(node, 2), weights.values.shape[0])
    return convolution(context, node, spread, weights, where, groups=groups, bias=bias)


def _weights(context: Context, node: Node, value: Value, groups: int) -> Weights:
    """ONNX's `[I, O/groups, KH, KW]` as an ordinary convolution has them: `[O, I/groups, KH, KW]`,
    turned around."""
    weights = weights_of(context, node)
    if len(value.shape) == 3 and weights.values.ndim == 3:
        weights = weights.moved(lambda array: array[:, :, None])
    shape = weights.values.shape
    if len(shape) != 4 or len(value.shape) not in (3, 4):
        raise node.error(
            f"its input has shape {list(value.shape)}, its weights {list(shape)}",
            hint="Only 1-D and 2-D convolutions are supported.",
        )
    if groups < 1 or shape[0] % groups or value.channels != shape[0] or min(shape) < 1:
        raise node.error(
            f"weights {list(shape)} in {groups} groups do not fit {value.channels} input channels"
        )

    def turned(array: Array) -> Array:
        parts = array.reshape(groups, shape[0] // groups, *shape[1:]).swapaxes(1, 2)
        return parts.reshape(-1, shape[0] // groups, *shape[2:])[:, :, ::-1, ::-1]

    return weights.moved(turned)


def _pads(
    node: Node, value: Value, stride: tuple[int, int], spans: list[int]
) -> tuple[list[int], list[int]]:
    """What is cut off before and after the whole result, as `pads` says; less than 0 adds."""
    rank = len(value.shape)
    extra = node.pair("output_padding", (0, 0), rank)
    mode = node.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"auto_pad {mode} is not known")
    sizes = value.group.shape[1:3]
    if node.has("output_shape") or mode.startswith("SAME"):
        wanted = node.integers(
            "output_shape", tuple(size * step for size, step in zip(sizes, stride, strict=True))
        )
        wanted = (1, wanted[-1]) if rank == 3 and wanted else wanted[-2:]
        if len(wanted) != 2:
            raise node.error("its output_shape has fewer than two sizes")
        totals = [
            step * (size - 1) + more + span - out
            for step, size, more, span, out in zip(stride, sizes, extra, spans, wanted, strict=True)
        ]
        halves = [total // 2 for total in totals]
        others = [total - half for total, half in zip(totals, halves, strict=True)]
        first, last = (halves, others) if mode == "SAME_UPPER" else (others, halves)
    else:
        pads = node.integers("pads", (0, 0, 0, 0)) if mode == "NOTSET" else (0, 0, 0, 0)
        if rank == 3 and len(pads) == 2:
            pads = (0, pads[0], 0, pads[1])
        if len(pads) != 4:
            raise node.error(f"it has {len(pads)} pads, not two for each spatial axis")
        first, last = list(pads[:2]), list(pads[2:])
    return first, [pad - more for pad, more in zip(last, extra, strict=True)]


def _spread(
    context: Context,
    node: Node,
    value: Value,
    stride: tuple[int, int],
    spans: list[int],
    first: list[int],
    last: list[int],
) -> tuple[Value, Padding]:
    """The input with zeros between its pixels, less what `pads` cuts off beyond the kernel's reach;
    and the padding around it."""
    _, height, width, channels = value.group.shape
    sizes = [(size - 1) * step + 1 for size, step in zip((height, width), stride, strict=True)]
    before = [span - 1 - pad for span, pad in zip(spans, first, strict=True)]
    after = [span - 1 - pad for span, pad in zip(spans, last, strict=True)]
    cut = [max(-pad, 0) for pad in before]
    kept = [size - less - max(-pad, 0) for size, less, pad in zip(sizes, cut, after, strict=True)]
    top, left, bottom, right = (max(pad, 0) for pad in (*before, *after))
    padding = (top, left, bottom, right)
    if min(kept) < 1:
        raise node.error(f"its pads cut off all of its {height} x {width} input")
    if kept == sizes == [height, width]:
        return value, padding
    rows, columns = (
        Axis(divide=step, offset=less, exact=step > 1)
        for step, less in zip(stride, cut, strict=True)
    )
    view = Resample(
        shape=(kept[0], kept[1], channels),
        source=(height, width, channels),
        rows=rows,
        columns=columns,
    )
    shape = onnx_shape_of((value.shape[0], kept[0], kept[1], channels), len(value.shape))
    result = moves.seen(context.builder, value, view, f"{value.name}_in_{node.name}", shape)
    result.group.add_sources([node.name])
    return result, padding


HANDLERS: dict[str, Handler] = {"ConvTranspose": conv_transpose}
