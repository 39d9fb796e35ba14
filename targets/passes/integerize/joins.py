"""Concat: the sum of its parts, each of them 0 where the others are."""

from __future__ import annotations

from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import (
    Coded,
    Value,
    coded_value,
    logical_shape,
)
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import affine, total
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.views import Axis, Resample


def concat(context: Context, node: Node) -> Value:
    shape = tuple(context.model.get_tensor_shape(node.output) or ())
    rank = len(shape)
    axis = node.integer("axis", 1) % max(rank, 1)
    parts = [_part(context, node, index) for index in range(len(node.inputs))]
    if axis == 0 or rank not in moves.AXES or any(len(part.shape) != rank for part in parts):
        raise node.error(
            f"it joins axis {axis} of shape {list(shape)}",
            hint="Supported are all axes but the batch, of up to 4.",
        )
    if len(parts) == 1:
        return context.renamed(node, parts[0], shape)
    placed = _placed(context, node, parts, shape, moves.AXES[rank][axis - 1])
    group = context.builder.group(logical_shape(shape), None)
    for part in placed:
        group.absorb(part.group)
    group.add_sources(context.sources(node))
    coded = _joined(node, placed)
    if coded is not None:
        return coded_value(node.output, shape, group, coded)
    expr = total([context.builder.read(part, group) for part in placed])
    reason = f"Concat '{node.name}' joins values of different scales"
    return Value(name=node.output, shape=shape, group=group, expr=expr, reason=reason)


def _part(context: Context, node: Node, index: int) -> Value:
    """Input `index` as an image, a constant as a value."""
    array = context.array_or_none(node, index)
    return context.image(node, index) if array is None else context.given(node, index, array.shape)


def _placed(
    context: Context, node: Node, parts: list[Value], shape: tuple[int, ...], axis: int
) -> list[Value]:
    """Every part where it lies in the result, which is all 0 elsewhere."""
    _, height, width, channels = logical_shape(shape)
    placed, start = [], 0
    for part in parts:
        axes = [Axis(), Axis(), Axis()]
        axes[axis] = Axis(offset=-start)
        source = part.group.shape[1:]
        view = Resample(
            shape=(height, width, channels),
            source=source,
            rows=axes[0],
            columns=axes[1],
            channels=axes[2],
        )
        placed.append(moves.seen(context.builder, part, view, f"{part.name}_in_{node.name}", shape))
        start += source[axis]
    return placed


def _joined(node: Node, parts: list[Value]) -> Coded | None:
    """One code for all, where every part has the same grid, scale and zero point."""
    codes = [part.coded for part in parts if part.coded is not None]
    first = codes[0] if len(codes) == len(parts) else None
    if first is None or not moves.has_zero(first):
        return None
    scale, zero = first.scale[0], first.zero_point[0]
    for code in codes:
        alike = code.grid == first.grid and code.scale.size == 1 and code.scale[0] == scale
        if not alike or not moves.has_zero(code) or code.zero_point[0] != zero:
            return None
    joined = affine(total([code.expr for code in codes]), 1.0, -zero * (len(codes) - 1))
    return Coded(
        name=node.output,
        expr=joined,
        grid=first.grid,
        scale=first.scale,
        zero_point=first.zero_point,
    )


HANDLERS: dict[str, Handler] = {"Concat": concat}
