"""QONNX's quantizers that are no single rounded quotient, in plain float32 operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from mpqdeploy.core import ModelError
from mpqdeploy.export.quantizer import QONNX_DOMAINS, Arrays, read_rounding
from mpqdeploy.export.standard.activations import rounded
from mpqdeploy.export.standard.graph import Emitter

_TRUNC_1_INPUTS = 5  # version 2 has one more, and clips


def is_step(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Trunc", "MultiThreshold") and node.domain in QONNX_DOMAINS


def emit_step(emitter: Emitter, node: onnx.NodeProto, constants: Arrays, rank: int) -> None:
    """`rank`: the number of dimensions of the input."""
    attributes = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
    parameters = [_constant(node, name, constants) for name in node.input[1:]]
    if node.op_type == "Trunc":
        _emit_trunc(emitter, node, parameters, attributes)
    else:
        _emit_thresholds(emitter, node, parameters[0], attributes, rank)


def _constant(node: onnx.NodeProto, name: str, constants: Arrays) -> NDArray[np.float32]:
    if name not in constants:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) computes its parameter {name!r} at run time.",
            hint="Only quantizers with fixed parameters can be exported.",
        )
    return np.asarray(constants[name], np.float32)


def _emit_trunc(
    emitter: Emitter,
    node: onnx.NodeProto,
    parameters: list[NDArray[np.float32]],
    attributes: dict[str, Any],
) -> None:
    scale, zero, bits, *output = parameters
    first = len(node.input) == _TRUNC_1_INPUTS
    steps = bits - output[0] if first else np.round(np.log2(output[0] / scale))
    divisor = np.asarray(2.0**steps, np.float32)
    scaled = emitter.node("Div", [node.input[0], emitter.constant("divisor", scale)])
    whole = emitter.node("Round", [emitter.node("Add", [scaled, emitter.constant("shift", zero)])])
    codes = emitter.node("Div", [whole, emitter.constant("steps", divisor)])
    if not first:
        zero, scale = np.asarray(zero / divisor, np.float32), output[0]
        signed, narrow = attributes.get("signed", 1), attributes.get("narrow", 0)
        width = int(output[1].reshape(-1)[0])
        low = -(1 << (width - 1)) + narrow if signed else 0
        high = (1 << (width - signed)) - 1 - (narrow if not signed else 0)
        bounds = [emitter.constant(n, np.float32(v)) for n, v in (("low", low), ("high", high))]
        codes = emitter.node("Clip", [codes, *bounds])
    rounding = read_rounding(node, attributes.get("rounding_mode", b"FLOOR"))
    codes = rounded(emitter, rounding, codes)
    shifted = emitter.node("Sub", [codes, emitter.constant("zero", zero)])
    emitter.node("Mul", [shifted, emitter.constant("scale", scale)], node.output[0])


def _emit_thresholds(
    emitter: Emitter,
    node: onnx.NodeProto,
    table: NDArray[np.float32],
    attributes: dict[str, Any],
    rank: int,
) -> None:
    """Every element against all thresholds of its channel, along one more axis."""
    if attributes.get("data_layout", b"") not in (b"", b"NC", b"NCHW") or rank == 3:
        raise ModelError(
            f"node {node.name!r} (MultiThreshold) has its channels last.",
            hint="Only channels first can be exported.",
        )
    channels, steps = table.shape
    thresholds = table.reshape(channels, *(1,) * (rank - 2), steps)
    axis = emitter.constant("axis", np.array([-1]))
    wide = emitter.node("Unsqueeze", [node.input[0], axis])
    reached = emitter.node("GreaterOrEqual", [wide, emitter.constant("thresholds", thresholds)])
    counted = emitter.node("Cast", [reached], to=TensorProto.FLOAT)
    count = emitter.node("ReduceSum", [counted, axis], keepdims=0)
    scale = emitter.constant("scale", np.float32(attributes.get("out_scale", 1.0)))
    bias = emitter.constant("bias", np.float32(attributes.get("out_bias", 0.0)))
    emitter.node("Add", [emitter.node("Mul", [count, scale]), bias], node.output[0])
