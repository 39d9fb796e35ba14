"""Nodes that read only constants: computed here, with the codes of quantized weights kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from qonnx.core.onnx_exec import execute_node
from qonnx.custom_op.general.intquant import int_quant

from mpqdeploy.core import ModelError
from mpqdeploy.targets.passes.integerize.builder import Constant
from mpqdeploy.targets.passes.integerize.context import Context
from mpqdeploy.targets.passes.integerize.quantizers import (
    Codes,
    constant_codes,
    read_quantizer,
)
from mpqdeploy.targets.passes.node import Node

Array = NDArray[np.generic]
_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")


def is_constant(context: Context, node: Node) -> bool:
    """Whether every input of `node` is known."""
    return all(context.constant(name) is not None for name in node.inputs if name)


def fold(context: Context, node: Node) -> Constant:
    """The constant that `node` computes.

    Raises:
        ModelError: a quantizer's parameters are out of range; inputs that do not fit each other.
    """
    try:
        if node.op in _QUANTIZERS:
            array, codes = _quantized(context, node)
        else:
            array = _executed(context, node)
            codes = _moved_codes(context, node, array)
    except ModelError:
        raise
    except Exception as error:  # numpy's and onnxruntime's, of constants that do not fit each other
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise node.error(f"it cannot be computed: {reason}") from error
    return Constant(array=array, codes=codes, sources=context.sources(node))


def _quantized(context: Context, node: Node) -> tuple[Array, Codes | None]:
    """By QONNX's own functions, so that the codes are those of its executor."""
    array = np.asarray(context.required(node, 0))
    parameters = [context.required(node, index) for index in range(1, len(node.inputs))]
    if not np.all(np.isfinite(array)):
        raise node.error("it quantizes a constant that is not finite")
    quantizer = read_quantizer(node, parameters)
    if node.op == "BipolarQuant":
        real = np.where(array >= 0, np.float32(1), np.float32(-1)) * parameters[0]
    else:
        real = int_quant(
            array,
            *parameters,  # missing ones were refused
            node.integer("signed", 1),
            node.integer("narrow", 1),
            quantizer.rounding.replace("ROUND_TO_ZERO", "DOWN"),
        )
    real = np.asarray(real, np.float32)
    return real, constant_codes(node, real, quantizer)


def _executed(context: Context, node: Node) -> Array:
    """By onnxruntime, one node at a time."""
    model = context.model
    names = [name for name in node.inputs if name]
    arrays: dict[str, Array] = {
        name: context.required(node, node.inputs.index(name), whole=True) for name in names
    }
    arrays[node.output] = np.zeros(model.get_tensor_shape(node.output), np.float32)
    execute_node(node.proto, arrays, model.graph, model.get_opset_imports()[node.proto.domain])
    return arrays[node.output]


def _moved_codes(context: Context, node: Node, result: Array) -> Codes | None:
    """The codes of a constant that was only moved or scaled."""
    operands = [context.constants.get(name) for name in node.inputs]
    first = operands[0]
    if first is None or first.codes is None:
        return None
    codes = first.codes
    if node.op in ("Identity", "Dropout"):
        return codes
    if node.op in ("Mul", "Div") and operands[1] is not None:
        factor = np.asarray(operands[1].array, np.float64)
        scale = codes.scale * factor if node.op == "Mul" else codes.scale / factor
        return replace(codes, scale=scale) if scale.shape == codes.values.shape else None
    move: Callable[[Array], Array]
    if node.op == "Transpose":
        order = node.integers("perm", tuple(range(codes.values.ndim))[::-1])
        move = lambda array: array.transpose(order)  # noqa: E731
    elif node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        move = lambda array: array.reshape(result.shape)  # noqa: E731
    else:
        return None
    return Codes(
        values=np.asarray(move(codes.values), np.int32),
        scale=np.asarray(move(codes.scale), np.float64),
        grid=codes.grid,
    )
