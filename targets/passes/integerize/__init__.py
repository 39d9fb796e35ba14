"""integerize: a normalized QONNX graph → `Program`.

Every convolution, matrix product and pool becomes the anchor of a step, on integer codes; what
follows it elementwise (scales, bias, BatchNorm, residual additions, activations, quantizers) folds
into that step's epilogue. A quantizer of an input is a step without an anchor.
Where a step's result is stored as a float although it follows from few bits, its sums are (`sums`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper

from mpqdeploy.core import ModelError
from mpqdeploy.targets.passes.integerize import (
    arithmetic,
    convolutions,
    elementwise,
    functions,
    joins,
    moves,
    normalization,
    pools,
    products,
    resizing,
    shapes,
    thresholds,
    transposed,
)
from mpqdeploy.targets.passes.integerize.builder import Builder
from mpqdeploy.targets.passes.integerize.constants import fold, is_constant
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.sums import store_sums
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Affine, FloatConv, Port, Program, Step, walk

HANDLERS: Mapping[str, Handler] = {
    **arithmetic.HANDLERS,
    **convolutions.HANDLERS,
    **elementwise.HANDLERS,
    **functions.HANDLERS,
    **joins.HANDLERS,
    **normalization.HANDLERS,
    **pools.HANDLERS,
    **products.HANDLERS,
    **resizing.HANDLERS,
    **shapes.HANDLERS,
    **thresholds.HANDLERS,
    **transposed.HANDLERS,
}
SUPPORTED = tuple(sorted(HANDLERS))


def integerize(model: ModelWrapper) -> Program:
    """The integer program of a model that `normalize` returned.

    Integer tensors have the names of the quantizers' outputs in the model.

    Raises:
        ModelError: a node that cannot be computed on integers exactly; it is named.
    """
    graph = model.graph
    ports = [port.name for port in (*graph.input, *graph.output)]
    uses = Counter(name for node in graph.node for name in node.input)
    builder = Builder(uses, ports)
    context = Context(model, builder)
    inputs = []
    for port in graph.input:
        shape = _port_shape(model, port.name)
        context.values[port.name] = builder.input(port.name, shape)
        inputs.append(Port(name=port.name, tensor=port.name, shape=shape))
    for proto in graph.node:
        _visit(context, Node(proto))
    outputs = tuple(_output(context, port.name) for port in graph.output)
    steps = builder.steps()
    program = store_sums(
        Program(inputs=tuple(inputs), outputs=outputs, tensors=builder.tensors, steps=steps)
    )
    for step in program.steps:
        _check_constants(step)
    return program


def _visit(context: Context, node: Node) -> None:
    if is_constant(context, node):
        context.constants[node.output] = fold(context, node)
        return
    handler = HANDLERS.get(node.op)
    if handler is None:
        raise unsupported(node)
    if len(node.proto.output) > 1 and node.op not in shapes.OF_MANY_OUTPUTS:
        raise node.error("only its first output is supported")
    try:
        context.values[node.output] = handler(context, node)
    # numpy's, of shapes and numbers that no check before them foresaw
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise node.error(f"its inputs and attributes do not fit each other ({error})") from error


def _check_constants(step: Step) -> None:
    """Numbers that are finite one by one may overflow float32 together."""
    arrays = [
        array
        for output in step.outputs
        for part in walk(output.value)
        if isinstance(part, Affine)
        for array in (part.mul, part.add)
    ]
    if isinstance(step.anchor, FloatConv):
        arrays.append(step.anchor.weights)
    if not all(np.all(np.isfinite(array)) for array in arrays):
        raise ModelError(
            f"the constants of {', '.join(step.sources)} together are beyond float32.",
            hint="A scale, weight or statistic of these nodes is infinite or very large.",
        )


def unsupported(node: Node) -> ModelError:
    """The error for an operator that no handler knows."""
    return node.error(
        "this operator is not supported", hint=f"Supported are {', '.join(SUPPORTED)}."
    )


def _port_shape(model: ModelWrapper, name: str) -> tuple[int, ...]:
    shape = tuple(model.get_tensor_shape(name) or ())
    if not 2 <= len(shape) <= 4:
        raise ModelError(
            f"Input '{name}' has shape {list(shape)}.",
            hint="Supported are [N, C, H, W], [N, C, L] and [N, C].",
        )
    return shape


def _output(context: Context, name: str) -> Port:
    value = context.values.get(name)
    if value is None:
        raise ModelError(f"Output '{name}' does not depend on the model's inputs.")
    value = moves.unpadded(context.builder, value)
    tensor = context.builder.write_float(value.group, value.expr, name, port=True)
    return Port(name=name, tensor=tensor, shape=value.shape)


__all__ = ["HANDLERS", "SUPPORTED", "integerize", "unsupported"]
