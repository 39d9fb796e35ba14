"""Values seen through views: slices, pads, transposes, resizes cost no arithmetic of their own.

A view is attached to the loads below an expression, so that whoever reads the result computes it
in place. Only what no load can say is written to a tensor first: accumulators, and floats that are
not 0 where the view leaves its source.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import (
    NO_PADDING,
    Builder,
    Coded,
    Group,
    Value,
    coded_value,
    logical_shape,
)
from mpqdeploy.targets.passes.integerize.expressions import mapped
from mpqdeploy.targets.program import Affine, Expr, Load, walk
from mpqdeploy.targets.views import Axis, Reindex, Resample, View, change_nothing

DEEPEST = 64  # expressions above each other; a kernel of more is better cut in two
# By rank: where the ONNX axes from 1 on are among a view's (rows, columns, channels).
AXES = {2: (2,), 3: (2, 1), 4: (2, 0, 1)}


def seen(builder: Builder, value: Value, view: View, name: str, shape: tuple[int, ...]) -> Value:
    """`value` through `view`, with the ONNX name and shape of the result, in a group of its own
    unless all stays where it is."""
    if change_nothing(view):
        return replace(value, name=name, shape=shape)
    group = builder.group((value.group.shape[0], *view.shape), None)
    keeps = isinstance(view, Resample) and view.keeps_channels
    coded = value.coded
    if coded is not None and _code_moves(coded, keeps=keeps, leaves=view.leaves):
        code = _moved(builder, _code(builder, value, coded, group, view), view)
        return coded_value(name, shape, group, replace(coded, name=name, expr=code))
    expr = builder.read(value, group)
    if (view.leaves and not _is_zero_outside(builder, expr)) or not (keeps or _uniform(expr)):
        expr = Load(tensor=builder.write_float(value.group, value.expr, value.name))
    return Value(name=name, shape=shape, group=group, expr=_moved(builder, expr, view))


def image(builder: Builder, value: Value) -> Value:
    """`value` with its channels, rows and columns where its ONNX shape has them."""
    shape = logical_shape(value.shape)
    if shape == value.group.shape:
        return value
    source = value.group.shape[1:]
    view = Reindex(shape=shape[1:], source=source, extents=(int(np.prod(source)),), order=(0,))
    return seen(builder, value, view, value.name, value.shape)


def shallow(builder: Builder, value: Value) -> Value:
    """`value`, read from a tensor where computing it in place would be an endless kernel."""
    if builder.depth(value.expr) <= DEEPEST:
        return value
    group, coded = builder.group(value.group.shape, None), value.coded
    if coded is None:
        expr = Load(tensor=builder.write_float(value.group, value.expr, value.name))
        return replace(value, group=group, expr=expr)
    code = replace(coded, expr=Load(tensor=builder.write_codes(value.group, coded)))
    read = coded_value(value.name, value.shape, group, code)
    return replace(value, group=group, expr=read.expr, coded=code)


def unpadded(builder: Builder, value: Value) -> Value:
    """`value` with the zero border that a Pad node left to the next anchor."""
    if value.padding == NO_PADDING:
        return value
    top, left, bottom, right = value.padding
    _, height, width, channels = value.group.shape
    view = Resample(
        shape=(height + top + bottom, width + left + right, channels),
        source=(height, width, channels),
        rows=Axis(offset=-top),
        columns=Axis(offset=-left),
    )
    return seen(builder, replace(value, padding=NO_PADDING), view, value.name, value.shape)


def _code_moves(coded: Coded, *, keeps: bool, leaves: bool) -> bool:
    """Whether the codes themselves, rather than their real values, can be seen through a view."""
    if not keeps and coded.scale.size * coded.zero_point.size > 1:
        return False
    return not leaves or has_zero(coded)


def has_zero(coded: Coded) -> bool:
    """Whether one code stands for 0 in all channels."""
    zero = coded.zero_point
    if coded.grid.bipolar or zero.size != 1 or zero[0] != np.rint(zero[0]):
        return False
    return bool(coded.grid.low <= zero[0] <= coded.grid.high)


def _code(builder: Builder, value: Value, coded: Coded, group: Group, view: View) -> Expr:
    """The code of `value` as `group` gets it: a load, or computed from loads."""
    if isinstance(coded.expr, Load) or (builder.moves(value) and not view.leaves):
        group.absorb(value.group)
        return coded.expr
    return Load(tensor=builder.write_codes(value.group, coded))


def _uniform(expr: Expr) -> bool:
    """Whether no constant of `expr` differs between channels."""
    affines = (part for part in walk(expr) if isinstance(part, Affine))
    return all(part.mul.size == part.add.size == 1 for part in affines)


def _is_zero_outside(builder: Builder, expr: Expr) -> bool:
    """Whether elements outside the loaded tensor, which read as zero points, come out as 0."""
    if isinstance(expr, Load):
        return bool(np.all(builder.tensors[expr.tensor].zero_point == 0))
    if isinstance(expr, Affine) and isinstance(expr.x, Load):
        zero = builder.tensors[expr.x.tensor].zero_point.astype(np.float64)
        uniform = expr.mul.size == expr.add.size == zero.size == 1
        return uniform and bool(abs(expr.mul[0] * zero[0] + expr.add[0]) <= 1e-6 * expr.mul[0])
    return False


def _moved(builder: Builder, expr: Expr, view: View) -> Expr:
    """`expr` with every load behind `view`."""
    if not isinstance(expr, Load):
        return mapped(expr, lambda operand: _moved(builder, operand, view))
    channels = builder.tensors[expr.tensor].shape[3]
    whole = expr.channel_offset == 0 and view.source[2] == channels
    if not expr.views and isinstance(view, Resample) and _strides(view, whole=whole):
        return Load(
            tensor=expr.tensor,
            stride=(expr.stride[0] * view.rows.step, expr.stride[1] * view.columns.step),
            channel_offset=expr.channel_offset - view.channels.offset,
        )
    if expr.views and change_nothing(view, expr.views[0]):
        return replace(expr, views=expr.views[1:])
    return replace(expr, views=(view, *expr.views))


def _strides(view: Resample, *, whole: bool) -> bool:
    """Whether a stride and a channel offset say it: whole rows, and channels of the `whole` tensor
    (of a part, what the part left out would come back)."""
    pixels = view.rows == Axis(step=view.rows.step) and view.columns == Axis(step=view.columns.step)
    channels = view.channels == Axis(offset=view.channels.offset)
    forward = view.rows.step > 0 and view.columns.step > 0
    inside = not (view.rows.conditions(0, view.shape[0], view.source[0])) and not (
        view.columns.conditions(0, view.shape[1], view.source[1])
    )
    return pixels and channels and forward and inside and (whole or view.keeps_channels)
