"""Geometry of sliding windows: ONNX's ways to say where a kernel goes."""

from __future__ import annotations

from dataclasses import dataclass

from mpqdeploy.targets.passes.integerize.builder import Padding, Value
from mpqdeploy.targets.passes.node import Node

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """`padding` is (top, left, bottom, right); `output` is (height, width)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding
    output: Pair


def window(node: Node, value: Value, kernel: Pair) -> Window:
    """The window that `node` slides over `value`, including a Pad node's pending border.

    Raises:
        ModelError: not a 2-D image, unknown auto_pad, or a kernel larger than its image.
    """
    rank = len(value.shape)
    if rank not in (3, 4):
        raise node.error(f"its input has shape {list(value.shape)}, not [N, C, H, W] or [N, C, L]")
    stride, dilation = (node.pair(name, (1, 1), rank) for name in ("strides", "dilations"))
    if min(*stride, *dilation, *kernel) < 1:
        raise node.error(
            f"its kernel is {list(kernel)}, its strides {list(stride)}, dilations {list(dilation)}"
        )
    size = (value.group.shape[1], value.group.shape[2])
    top, left, bottom, right = value.padding
    widened = (size[0] + top + bottom, size[1] + left + right)
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    own = _padding(node, widened, stride, spans, rank)
    rows = widened[0] + own[0] + own[2] - spans[0]
    columns = widened[1] + own[1] + own[3] - spans[1]
    if rows < 0 or columns < 0:
        raise node.error(
            f"its {kernel[0]}x{kernel[1]} kernel exceeds its {size[0]}x{size[1]} input"
        )
    grow_rows, grow_columns = _ceil_growth(
        node, (rows, columns), stride, (size[0] + top + own[0], size[1] + left + own[1])
    )
    padding = (
        top + own[0],
        left + own[1],
        bottom + own[2] + grow_rows,
        right + own[3] + grow_columns,
    )
    output = ((rows + grow_rows) // stride[0] + 1, (columns + grow_columns) // stride[1] + 1)
    return Window(kernel=kernel, stride=stride, dilation=dilation, padding=padding, output=output)


def _padding(node: Node, size: Pair, stride: Pair, spans: tuple[int, ...], rank: int) -> Padding:
    mode = node.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode == "NOTSET":
        pads = node.integers("pads", (0, 0, 0, 0))
        if rank == 3 and len(pads) == 2:
            pads = (0, pads[0], 0, pads[1])
        if len(pads) != 4 or min(pads) < 0:
            raise node.error(f"pads {list(pads)} are not four sizes of 0 or more")
        return (pads[0], pads[1], pads[2], pads[3])
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"auto_pad {mode} is not known")
    totals = [
        max((-(-extent // step) - 1) * step + span - extent, 0)
        for extent, step, span in zip(size, stride, spans, strict=True)
    ]
    less = [total // 2 for total in totals]
    more = [total - half for total, half in zip(totals, less, strict=True)]
    first, last = (less, more) if mode == "SAME_UPPER" else (more, less)
    return (first[0], first[1], last[0], last[1])


def _ceil_growth(node: Node, slack: Pair, stride: Pair, ends: Pair) -> Pair:
    """Bottom and right padding that ceil_mode adds; a window that starts past the image is none.

    `ends`: where the image ends, counted from the start of the padding.
    """
    if not node.integer("ceil_mode", 0):
        return (0, 0)
    grow = []
    for rest, step, end in zip(slack, stride, ends, strict=True):
        last = -(-rest // step) * step
        grow.append(0 if last >= end or last < rest else last - rest)
    return (grow[0], grow[1])
