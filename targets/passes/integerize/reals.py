"""Operands of anchors over float32: the axes that an anchor reduces become channels.

By a view, whichever they are in the file, and the result is seen through the opposite one. Views
that meet those of a product of tokens (`passes/tokens.py`), or each other, are gone with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import Value, logical_shape
from mpqdeploy.targets.passes.integerize.context import Context
from mpqdeploy.targets.passes.node import Node, unused
from mpqdeploy.targets.views import Reindex


@dataclass(frozen=True)
class Axes:
    """Of an ONNX `shape`, those from `start` on, before `stop`."""

    shape: tuple[int, ...]
    start: int
    stop: int

    @classmethod
    def last(cls, shape: tuple[int, ...]) -> Axes:
        return cls(shape, len(shape) - 1, len(shape))

    @property
    def kept(self) -> tuple[int, ...]:
        return self.shape[self.start : self.stop]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Elements between the batch and these axes, of these, and behind them."""
        before, behind = self.shape[1 : self.start], self.shape[self.stop :]
        return math.prod(before), math.prod(self.kept), math.prod(behind)

    @property
    def rows(self) -> tuple[int, int, int, int]:
        """`[N, 1, all others, these]`."""
        before, features, behind = self.sizes
        return self.shape[0], 1, before * behind, features


def in_rows(context: Context, node: Node, value: Value, axes: Axes, suffix: str) -> str:
    """The float32 tensor of the shape `axes.rows` that holds `value`; its name, in which `suffix`
    stands, is new in the file, since what has a name of that is compared with it (`verify`).

    Codes are compared as what the tensor shows: it may be all that is stored of them.
    """
    batch, _, rows, features = axes.rows
    into = Reindex(
        shape=(1, rows, features), source=value.group.shape[1:], extents=axes.sizes, order=(1, 0, 2)
    )
    name = unused(context.model, f"{node.output}_{suffix}")
    seen = moves.seen(context.builder, value, into, name, (batch, features, rows))
    written = context.builder.write_float(seen.group, seen.expr, seen.name)
    if value.coded is not None:
        context.builder.show(written, value.name, into)
    return written


def out_of_rows(context: Context, node: Node, result: Value, axes: Axes) -> Value:
    """The `result` of a node, of the shape `axes.rows`, as the file has it."""
    before, features, behind = axes.sizes
    back = Reindex(
        shape=logical_shape(axes.shape)[1:],
        source=result.group.shape[1:],
        extents=(features, before, behind),
        order=(1, 0, 2),
    )
    given = replace(result, name=unused(context.model, f"{node.output}_in_rows"))
    return moves.seen(context.builder, given, back, node.output, axes.shape)
