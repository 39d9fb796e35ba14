"""MatMul: by a constant a fully connected layer; of two computed tensors, as attention has them, a
float32 anchor.

The matrices of an image lie below each other, features in the channels, so that Softmax and a next
product read what a product has written.
"""

from __future__ import annotations

from mpqdeploy.targets.passes.integerize import convolutions
from mpqdeploy.targets.passes.integerize.builder import Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.reals import Axes, in_rows, out_of_rows
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, MatMul

RANKS = (3, 4)


def matmul(context: Context, node: Node) -> Value:
    if any(name not in context.values for name in node.inputs[:2]):
        return convolutions.matmul(context, node)
    left, right = context.value(node), context.value(node, 1)
    if len(left.shape) not in RANKS or left.shape[:-2] != right.shape[:-2]:
        raise node.error(
            f"its computed factors have the shapes {list(left.shape)} and {list(right.shape)}",
            hint="Both are [N, rows, columns] or [N, matrices, rows, columns], as many of each.",
        )
    anchor = MatMul(
        input=in_rows(context, node, left, Axes.last(left.shape), "left"),
        right=in_rows(context, node, right, Axes.last(right.shape), "right"),
        count=left.shape[1] if len(left.shape) == max(RANKS) else 1,
    )
    axes = Axes.last((*left.shape[:-1], right.shape[-1]))
    group = context.builder.group(axes.rows, anchor)
    group.add_sources(context.sources(node))
    context.fall_back(node, group, "both of its factors are computed")
    reason = f"MatMul '{node.name}' is not quantized"
    result = Value(name=node.output, shape=axes.shape, group=group, expr=Acc(), reason=reason)
    return out_of_rows(context, node, result, axes)


HANDLERS: dict[str, Handler] = {"MatMul": matmul}
