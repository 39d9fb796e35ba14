"""QONNX to standard ONNX: quantizers become packed codes and QuantizeLinear/DequantizeLinear.

Everything else is kept as it is: batch normalization stays a node of its own, in float. Folding it
into the weights would let onnxruntime take its integer convolution for more layers, but that
kernel rounds the bias to whole accumulator steps, and the codes would no longer be QONNX's.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import shape_inference, version_converter

from mpqdeploy.core import ModelError
from mpqdeploy.core.files import replacing
from mpqdeploy.export.cleaning import clean_qonnx
from mpqdeploy.export.executors import load_model
from mpqdeploy.export.quantizer import Arrays, initializers, is_quantizer, read_quantizer
from mpqdeploy.export.standard.activations import emit_activation
from mpqdeploy.export.standard.constants import emit_constant
from mpqdeploy.export.standard.graph import BASE_OPSET, Emitter
from mpqdeploy.export.standard.steps import emit_step, is_step

_STANDARD_DOMAINS = ("", "ai.onnx")
_IR_VERSIONS = {21: 10, 25: 13}
_CONVERSION_ERRORS = (RuntimeError, shape_inference.InferenceError, version_converter.ConvertError)


def to_standard_onnx(model: Path | onnx.ModelProto, path: Path) -> None:
    """Write `path`, a file for any onnxruntime that reads opset 21 (25 with 2-bit weights).

    Weights take 1, 2, 4 or 8 bits (3 bits are stored in 4, 5 to 7 in 8); every activation has the
    codes that QONNX defines. Inputs, outputs, tensor names and batch size stay. Raises `ModelError`
    naming the node that no standard operator expresses, or for a file that is not QONNX.
    """
    original = load_model(model)
    for node in original.graph.node:
        _check_known(node)
    source = _upgraded(clean_qonnx(original))
    with replacing(path) as temporary:
        onnx.save(convert(source), temporary)


def convert(source: onnx.ModelProto) -> onnx.ModelProto:
    """The standard form of a QONNX model at `BASE_OPSET`, checked."""
    constants = initializers(source.graph)
    ranks = _ranks(source)
    taken = _names(source.graph)
    opset = BASE_OPSET
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    for node in source.graph.node:
        if not (is_quantizer(node) or is_step(node)):
            _check_known(node)
            nodes.append(node)
            continue
        emitter = _lowered(node, constants, ranks, taken)
        opset = max(opset, emitter.opset)
        nodes += emitter.nodes
        tensors += emitter.initializers
    used = {name for node in nodes for name in node.input}
    tensors += [tensor for tensor in source.graph.initializer if tensor.name in used]
    graph = onnx.helper.make_graph(
        nodes,
        source.graph.name or "mpqdeploy",
        [value for value in source.graph.input if value.name not in constants],
        source.graph.output,
        tensors,
    )
    result = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=_IR_VERSIONS[opset],
        producer_name="mpqdeploy",
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def _upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """At `BASE_OPSET`; quantizers are of another domain and pass through the converter."""
    version = next((o.version for o in model.opset_import if o.domain in _STANDARD_DOMAINS), None)
    if version is None:
        raise ModelError("the model names no ONNX opset.", hint="Export it again.")
    if version >= BASE_OPSET:
        return model
    try:
        return version_converter.convert_version(model, BASE_OPSET)
    except _CONVERSION_ERRORS as error:
        raise ModelError(
            f"the model's opset {version} cannot be raised to {BASE_OPSET}: {error}",
            hint=f"Export it with opset {BASE_OPSET - 1} or later.",
        ) from error


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Number of dimensions by tensor, as far as known; a quantizer keeps its input's shape."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if is_quantizer(node) or is_step(node):
            node.op_type, node.domain = "Identity", ""
            del node.input[1:]
            del node.attribute[:]
    graph = shape_inference.infer_shapes(plain).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _check_known(node: onnx.NodeProto) -> None:
    known = is_quantizer(node) or is_step(node)
    if node.domain not in _STANDARD_DOMAINS and not known:
        raise ModelError(
            f"node {node.name!r} has the operator {node.domain}.{node.op_type}, "
            "which standard ONNX does not have.",
            hint="Known custom operators: Quant, BipolarQuant, Trunc and MultiThreshold.",
        )


def _names(graph: onnx.GraphProto) -> set[str]:
    names = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
    return names


def _lowered(
    node: onnx.NodeProto, constants: Arrays, ranks: dict[str, int], taken: set[str]
) -> Emitter:
    emitter = Emitter(node.name or node.output[0], taken)
    source, output = node.input[0], node.output[0]
    if is_step(node):
        emit_step(emitter, node, constants, ranks.get(source, ranks.get(output, 0)))
        return emitter
    quantizer = read_quantizer(node, constants)
    if source in constants:
        emit_constant(emitter, quantizer, constants[source], output)
    elif source in ranks or output in ranks:
        emit_activation(emitter, quantizer, source, ranks.get(source, ranks.get(output, 0)), output)
    else:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) quantizes a tensor of unknown shape.",
            hint="Run qonnx's clean-up on the model, which infers the shapes.",
        )
    return emitter
