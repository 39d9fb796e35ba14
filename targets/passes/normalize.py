"""normalize: a QONNX file → a checked, cleaned graph with static shapes.

This is qonnx's own clean-up (shapes inferred, constants folded but for quantizers), except that
the names of nodes, tensors, inputs and outputs stay those of the file.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_node
from qonnx.transformation.base import Transformation
from qonnx.transformation.general import (
    RemoveStaticGraphInputs,
    RemoveUnusedTensors,
    SortGraph,
)
from qonnx.transformation.infer_shapes import InferShapes

from mpqdeploy.core import ModelError
from mpqdeploy.targets.passes.dialects import (
    OLDEST_OPSET,
    QONNX_DOMAIN,
    QONNX_OPS,
    QUANTIZERS,
    STANDARD_DOMAINS,
    settle,
)
from mpqdeploy.targets.passes.integerize import HANDLERS, unsupported
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.passes.reorder import pools_behind_quantizers
from mpqdeploy.targets.passes.taken import indices_before_turns
from mpqdeploy.targets.passes.tokens import products_of_tokens

MOST_ELEMENTS = 2**31 - 1


def normalize(source: Path | ModelProto, *, batch: int = 1) -> ModelWrapper:
    """Read, check and clean a QONNX model; `source` is not changed.

    A batch size that the file leaves open becomes `batch`.

    Raises:
        ModelError: a file that is missing, cut short or not ONNX; a model without quantizers; an
            operator that is not supported, by node; a shape that is not known.
    """
    proto, where = _read(source)
    try:
        _check_form(proto, where)
        settle(proto)
        _check_nodes(proto, where)
        _fix_inputs(proto, where, batch)
        model = _apply(ModelWrapper(proto), SortGraph())  # files of some exporters are not sorted
        onnx.checker.check_model(model.model)
        model = _clean(model)
    except ModelError:
        raise
    # protobuf, onnx, qonnx and onnxruntime, which fold constants and infer shapes, meet a graph
    # that contradicts itself with errors of any type.
    except Exception as error:
        raise ModelError(f"{where} is not a valid model: {_first_line(error)}") from error
    _check_result(model)
    return model


def _check_form(proto: ModelProto, where: str) -> None:
    """What every later step relies on."""
    for index, node in enumerate(proto.graph.node):
        if not node.output or not node.output[0]:
            name = node.name or f"number {index}"
            raise ModelError(f"{where}: node '{name}' ({node.op_type}) has no output.")
    version = max(
        (o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), default=0
    )
    if not OLDEST_OPSET <= version <= onnx.defs.onnx_opset_version():
        raise ModelError(
            f"{where} is of opset {version}.",
            hint=f"Opsets {OLDEST_OPSET} to {onnx.defs.onnx_opset_version()} are read.",
        )
    written = Counter(name for node in proto.graph.node for name in node.output if name)
    twice = next((name for name, count in written.items() if count > 1), None)
    if twice is not None:
        raise ModelError(f"{where}: more than one node writes '{twice}'.")


def _read(source: Path | ModelProto) -> tuple[ModelProto, str]:
    if isinstance(source, ModelProto):
        return copy.deepcopy(source), "The model"
    try:
        proto = onnx.load(source)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or source}: no such file.") from error
    except IsADirectoryError as error:
        raise ModelError(f"{source} is a folder, not a model file.") from error
    except (DecodeError, OSError, UnicodeDecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{source} cannot be read as ONNX: {_first_line(error)}",
            hint="The file may be cut short, or of another format.",
        ) from error
    if not proto.graph.node or not proto.graph.output:
        raise ModelError(
            f"{source} holds no ONNX graph.",
            hint="The file may be empty, cut short, or of another format.",
        )
    return proto, str(source)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_nodes(proto: ModelProto, where: str) -> None:
    standard = proto.opset_import[0].version
    quantizers = 0
    for node in proto.graph.node:
        if node.domain == QONNX_DOMAIN:
            quantizers += node.op_type in (*QUANTIZERS, "MultiThreshold")
            known = node.op_type in QONNX_OPS
        else:
            known = node.domain in STANDARD_DOMAINS and onnx.defs.has(node.op_type, standard, "")
        if not known:
            raise unsupported(Node(node))
    if not quantizers:
        qdq = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
        raise ModelError(
            f"{where} is not a QONNX model: it has no Quant or BipolarQuant node.",
            hint="It holds QuantizeLinear nodes: convert it with qonnx's QCDQToQuant."
            if qdq
            else "Export the quantized network with brevitas.export.export_qonnx.",
        )


def _fix_inputs(proto: ModelProto, where: str, batch: int) -> None:
    """Leave only inputs that are fed at run time; an open batch size becomes `batch`."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    fed = [port for port in proto.graph.input if port.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(fed)
    for port in proto.graph.output:
        if port.type.tensor_type.elem_type not in (0, onnx.TensorProto.FLOAT):
            raise ModelError(f"{where}: output '{port.name}' is not of type float32.")
    for port in proto.graph.input:
        kind = port.type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT:
            raise ModelError(
                f"{where}: input '{port.name}' is not of type float32.",
                hint="Export the model with float32 inputs.",
            )
        for axis, size in enumerate(kind.shape.dim):
            if size.dim_value > 0:
                continue
            if axis > 0:
                raise ModelError(
                    f"{where}: axis {axis} of input '{port.name}' has no fixed size.",
                    hint="Export the model with a fixed image size.",
                )
            size.dim_value = batch


def _clean(model: ModelWrapper) -> ModelWrapper:
    _constants_to_initializers(model)
    _forget_shapes(model)
    model = _apply(model, InferShapes())
    _check_shapes(model, least=0)  # what is not known yet is 0
    model = _fold(model)
    while _fold_shapes(model):
        model = _fold(_apply(model, InferShapes()))
    _remove_dead_nodes(model)
    if indices_before_turns(model):
        model = _apply(model, SortGraph(), InferShapes())
    if products_of_tokens(model):
        model = _apply(model, SortGraph(), InferShapes())
        model = _fold(model)
    pools_behind_quantizers(model)
    return _apply(model, RemoveUnusedTensors(), RemoveStaticGraphInputs(), InferShapes())


def _fold(model: ModelWrapper) -> ModelWrapper:
    """Compute what depends on constants alone, but for quantizers, whose codes are wanted later.

    In one pass: qonnx's own folding infers every shape anew for each node.
    """
    graph, opsets = model.graph, model.get_opset_imports()
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in list(graph.node):
        known = all(name in constants for name in node.input if name)
        if not known or node.op_type in QONNX_OPS or node.op_type.startswith("Random"):
            continue
        results = {name: model.get_tensor_shape(name) for name in node.output if name}
        if any(shape is None for shape in results.values()):
            continue
        context = {name: constants[name] for name in node.input if name}
        context.update({name: np.zeros(shape, np.float32) for name, shape in results.items()})
        execute_node(node, context, graph, opsets[node.domain])
        for name in results:
            constants[name] = context[name]
            graph.initializer.append(numpy_helper.from_array(np.asarray(context[name]), name))
        graph.node.remove(node)
    return model


def _fold_shapes(model: ModelWrapper) -> bool:
    """Make constants of `Shape` nodes whose input's shape is known; whether there were any."""
    found = False
    for node in [node for node in model.graph.node if node.op_type == "Shape"]:
        shape = model.get_tensor_shape(node.input[0])
        if not shape or any(size < 1 for size in shape):
            continue
        parts = {part.name: int(part.i) for part in node.attribute}
        extents = np.array(shape[parts.get("start", 0) : parts.get("end", len(shape))], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(extents, node.output[0]))
        model.graph.node.remove(node)
        found = True
    return found


def _apply(model: ModelWrapper, *transformations: Transformation) -> ModelWrapper:
    for transformation in transformations:
        model = model.transform(transformation, make_deepcopy=False, cleanup=False)
    return model


def _forget_shapes(model: ModelWrapper) -> None:
    """Shapes in the file may be of another batch size, or have open sizes."""
    del model.graph.value_info[:]
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")


def _constants_to_initializers(model: ModelWrapper) -> None:
    """All at once; qonnx's constant folding would infer every shape anew for each of them."""
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        tensor = next((part.t for part in node.attribute if part.name == "value"), None)
        if tensor is not None:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
            model.graph.node.remove(node)


def _remove_dead_nodes(model: ModelWrapper) -> None:
    """Nodes that no output depends on, and outputs such as masks that nobody reads."""
    needed = {port.name for port in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if needed.isdisjoint(node.output):
            model.graph.node.remove(node)
            continue
        needed.update(node.input)
        while len(node.output) > 1 and node.output[-1] not in needed:
            node.output.pop()


def _check_result(model: ModelWrapper) -> None:
    for proto in model.graph.node:
        if proto.op_type not in HANDLERS:
            raise unsupported(Node(proto))
    _check_shapes(model, least=1)


def _check_shapes(model: ModelWrapper, *, least: int) -> None:
    for proto in model.graph.node:
        shape = model.get_tensor_shape(proto.output[0])
        if shape is None and least > 0:
            raise Node(proto).error("the shape of its output is not known")
        if shape is not None and any(size < least for size in shape):
            raise Node(proto).error(f"its output has shape {shape}")
        if shape is not None and math.prod(shape) > MOST_ELEMENTS:
            raise Node(proto).error(
                f"its output has shape {shape}: more elements than int32 counts"
            )
