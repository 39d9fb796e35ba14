"""Nodes that move elements but do not change them: reshape, transpose, slice, pad, and so on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Value, logical_shape
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.moves import AXES, seen
from mpqdeploy.targets.passes.node import Node, unused
from mpqdeploy.targets.views import Axis, Reindex, Resample

FLOAT32 = 1  # TensorProto.FLOAT
OF_MANY_OUTPUTS = ("Split",)


def identity(context: Context, node: Node) -> Value:
    value = context.value(node, padded=True)
    return context.renamed(node, value, value.shape)


def dropout(context: Context, node: Node) -> Value:
    training = context.array(node, 2, whole=True)
    if training is not None and bool(np.any(training)):
        raise node.error("it is in training mode", hint="Export the network in evaluation mode.")
    return identity(context, node)


def cast(context: Context, node: Node) -> Value:
    if node.integer("to", 0) != FLOAT32:
        raise node.error("it casts to another type than float32")
    return identity(context, node)


def reshape(context: Context, node: Node) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze."""
    shape = tuple(context.model.get_tensor_shape(node.output) or ())
    return _reshaped(context, node, context.value(node), shape)


def _reshaped(context: Context, node: Node, value: Value, shape: tuple[int, ...]) -> Value:
    """The elements of `value` stay, in ONNX's order."""
    if len(shape) < 2 or shape[0] != value.shape[0] or math.prod(shape) != math.prod(value.shape):
        raise node.error(
            f"it changes shape {list(value.shape)} to {list(shape)}",
            hint="The batch has to stay the first of at least two axes.",
        )
    batch, height, width, channels = value.group.shape
    if shape in ((batch, channels, height, width), (batch, channels * height * width)):
        return context.renamed(node, value, shape)
    source = (height, width, channels)
    view = Reindex(
        shape=logical_shape(shape)[1:], source=source, extents=(math.prod(source),), order=(0,)
    )
    return context.seen(node, value, view, shape)


def transpose(context: Context, node: Node) -> Value:
    value = context.value(node)
    order = node.integers("perm", tuple(range(len(value.shape)))[::-1])
    if sorted(order) != list(range(len(value.shape))):
        raise node.error(f"its perm {list(order)} is no order of {len(value.shape)} axes")
    moved = [axis for axis in order if value.shape[axis] != 1]
    if moved == sorted(moved):  # only axes of size 1 move
        return reshape(context, node)
    if order[0] != 0:
        raise node.error(f"it moves the batch: its perm is {list(order)}")
    shape = tuple(value.shape[axis] for axis in order)
    return _reindexed(context, node, value, value.shape[1:], [a - 1 for a in order[1:]], shape)


def _reindexed(
    context: Context,
    node: Node,
    value: Value,
    extents: tuple[int, ...],
    order: list[int],
    shape: tuple[int, ...],
) -> Value:
    """`value` reshaped to `extents` (without the batch), transposed by `order`, reshaped."""
    view = Reindex(
        shape=logical_shape(shape)[1:],
        source=value.group.shape[1:],
        extents=extents,
        order=tuple(order),
    )
    return context.seen(node, value, view, shape)


def depth_to_space(context: Context, node: Node) -> Value:
    value = context.image(node)
    size, mode = node.integer("blocksize", 0), node.text("mode", "DCR")
    if len(value.shape) != 4 or size < 1 or value.channels % (size * size):
        raise node.error(f"its blocksize is {size}, its input {list(value.shape)}")
    if mode not in ("DCR", "CRD"):
        raise node.error(f"its mode {mode} is not known")
    batch, channels, height, width = value.shape
    rest = channels // size**2
    shape = (batch, rest, height * size, width * size)
    if mode == "DCR":
        extents, order = (size, size, rest, height, width), [2, 3, 0, 4, 1]
    else:
        extents, order = (rest, size, size, height, width), [0, 3, 1, 4, 2]
    return _reindexed(context, node, value, extents, order, shape)


def space_to_depth(context: Context, node: Node) -> Value:
    value = context.image(node)
    size = node.integer("blocksize", 0)
    if len(value.shape) != 4 or size < 1 or value.shape[2] % size or value.shape[3] % size:
        raise node.error(f"its blocksize is {size}, its input {list(value.shape)}")
    batch, channels, height, width = value.shape
    extents = (channels, height // size, size, width // size, size)
    shape = (batch, channels * size**2, height // size, width // size)
    return _reindexed(context, node, value, extents, [2, 4, 0, 1, 3], shape)


def _resampled(value: Value, shape: Sequence[int], axes: Mapping[int, Axis]) -> Resample:
    """What a result of `shape` takes of `value`, by its own axes, 1 and up; the others as is."""
    seen_axes = [Axis(), Axis(), Axis()]
    for axis, taken in axes.items():
        seen_axes[AXES[len(shape)][axis - 1]] = taken
    rows, columns, channels = seen_axes
    return Resample(
        shape=logical_shape(tuple(shape))[1:],
        source=value.group.shape[1:],
        rows=rows,
        columns=columns,
        channels=channels,
    )


def slice_node(context: Context, node: Node) -> Value:
    value = context.image(node)
    rank = len(value.shape)
    axes: dict[int, Axis] = {}
    shape = list(value.shape)
    for start, end, axis, step in _slice_parameters(context, node, rank):
        if step == 0:
            raise node.error("its step is 0")
        taken = range(*slice(start, end, step).indices(value.shape[axis]))
        if len(taken) == value.shape[axis] and step > 0:
            continue
        if axis == 0 or rank not in AXES or not taken:
            raise node.error(
                f"it takes {len(taken)} elements of axis {axis} of shape {list(value.shape)}",
                hint="The batch cannot be sliced, and something has to be left.",
            )
        axes[axis] = Axis(step=step, offset=taken[0])
        shape[axis] = len(taken)
    if not axes:
        return context.renamed(node, value, value.shape)
    return context.seen(node, value, _resampled(value, shape, axes), tuple(shape))


def gather(context: Context, node: Node) -> Value:
    """One element of an axis, which is gone then."""
    value, indices = context.value(node), context.required(node, 1, whole=True)
    rank = len(value.shape)
    axis = axis_of(node, node.integer("axis", 0), rank)
    if axis == 0 or rank < 3 or indices.size != 1 or indices.ndim > 1:
        raise node.error(
            f"it takes {list(indices.shape)} indices of axis {axis} of {list(value.shape)}",
            hint="Supported is one index of an axis that is not the batch.",
        )
    size, number = value.shape[axis], int(indices.reshape(-1)[0])
    if not -size <= number < size:
        raise node.error(f"its index is {number}, of {size}")
    shape = tuple(context.model.get_tensor_shape(node.output) or ())
    batch, names = value.shape[0], [f"{node.output}_of_rows", f"{node.output}_row"]
    of_rows, row = (unused(context.model, name) for name in names)
    before, behind = math.prod(value.shape[1:axis]), math.prod(value.shape[axis + 1 :])
    rows = Reindex(  # of all channels that there are before the axis
        shape=(size, behind, before),
        source=value.group.shape[1:],
        extents=(before * size * behind,),
        order=(0,),
    )
    value = seen(context.builder, value, rows, of_rows, (batch, before, size, behind))
    left = (batch, before, 1, behind)
    view = _resampled(value, left, {2: Axis(offset=number % size)})
    return _reshaped(context, node, seen(context.builder, value, view, row, left), shape)


def split(context: Context, node: Node) -> Value:
    """One slice after the other; the first is returned, all are made known."""
    value = context.image(node)
    rank, names = len(value.shape), node.proto.output
    axis = axis_of(node, node.integer("axis", 0), rank)
    shapes = [tuple(context.model.get_tensor_shape(name) or ()) for name in names]
    sizes = [shape[axis] if len(shape) == rank else 0 for shape in shapes]
    if axis == 0 or rank not in AXES or min(sizes) < 1 or sum(sizes) > value.shape[axis]:
        raise node.error(f"it splits axis {axis} of shape {list(value.shape)} into {sizes}")
    start = 0
    for name, shape, size in zip(names, shapes, sizes, strict=True):
        view = _resampled(value, shape, {axis: Axis(offset=start)})
        part = seen(context.builder, value, view, name, shape)
        part.group.add_sources(context.sources(node))
        context.values[name] = part
        start += size
    return context.values[node.output]


def _slice_parameters(context: Context, node: Node, rank: int) -> list[tuple[int, int, int, int]]:
    """(start, end, axis, step), one per axis that is named."""
    if node.has("starts"):  # before opset 10
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes = node.integers("axes", range(len(starts)))
        steps: tuple[int, ...] = (1,) * len(starts)
    else:
        starts, ends = context.integers(node, 1), context.integers(node, 2)
        axes = context.integers(node, 3, tuple(range(len(starts))))
        steps = context.integers(node, 4, (1,) * len(starts))
    if len({len(starts), len(ends), len(axes), len(steps)}) != 1:
        raise node.error("its starts, ends, axes and steps differ in number")
    axes = tuple(axis_of(node, axis, rank) for axis in axes)
    if len(set(axes)) < len(axes):
        raise node.error("it names an axis twice")
    return list(zip(starts, ends, axes, steps, strict=True))


def axis_of(node: Node, axis: int, rank: int) -> int:
    """`axis` counted from the first; a `ModelError` where there is none such."""
    if not -rank <= axis < rank:
        raise node.error(f"it names axis {axis} of {rank}")
    return axis % rank


def pad(context: Context, node: Node) -> Value:
    """Zeros around an image for the next anchor, or a view that leaves its source."""
    value = context.value(node, padded=True)
    rank = len(value.shape)
    before, after = _pad_parameters(context, node, rank)
    if not any(before + after):
        return context.renamed(node, value, value.shape)
    shape = tuple(
        size + first + last for size, first, last in zip(value.shape, before, after, strict=True)
    )
    if before[0] or after[0] or rank not in AXES or min(shape) < 1:
        raise node.error(f"it changes shape {list(value.shape)} to {list(shape)}")
    if rank == 4 and not any(before[:2] + after[:2]) and min(before + after) >= 0:
        top, left, bottom, right = value.padding
        padding = (top + before[2], left + before[3], bottom + after[2], right + after[3])
        return replace(context.renamed(node, value, shape), padding=padding)
    value = context.image(node)
    axes = {axis: Axis(offset=-before[axis]) for axis in range(1, rank)}
    return context.seen(node, value, _resampled(value, shape, axes), shape)


def _pad_parameters(context: Context, node: Node, rank: int) -> tuple[list[int], list[int]]:
    mode = node.text("mode", "constant")
    flat = node.integers("pads", ()) if node.has("pads") else context.integers(node, 1)
    fill = context.array(node, 2)
    number = node.number("value", 0.0) if fill is None else float(np.ravel(fill)[0])
    if mode != "constant" or number != 0:
        raise node.error(f"mode {mode} with value {number:g}; only zeros are supported")
    axes = context.integers(node, 3, tuple(range(rank)))
    if len(flat) != 2 * len(axes):
        raise node.error(f"it has {len(flat)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        before[axis_of(node, axis, rank)] = flat[index]
        after[axis_of(node, axis, rank)] = flat[len(axes) + index]
    return before, after


HANDLERS: dict[str, Handler] = {
    "Cast": cast,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Flatten": reshape,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": slice_node,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": reshape,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
