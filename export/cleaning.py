"""Any QONNX file in the one form that this package reads.

These are qonnx's own transformations, but names stay: executors are compared by tensor name, and a
shipped file keeps its user's inputs and outputs.
"""

from __future__ import annotations

from typing import Any

import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.general import (
    RemoveStaticGraphInputs,
    RemoveUnusedTensors,
    SortGraph,
)
from qonnx.transformation.infer_shapes import InferShapes

from mpqdeploy.core import ModelError
from mpqdeploy.export.quantizer import QONNX_DOMAINS, QUANT_OPS

_DOMAIN, *_FORMER_DOMAINS = QONNX_DOMAINS
_TRUNC_1_INPUTS = 5  # of version 1 of Trunc; version 2 has one more
_CUSTOM_OPS = (*QUANT_OPS, "Trunc", "MultiThreshold")


def clean_qonnx(source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with constants folded (but for quantizers), nodes sorted and named, shapes inferred.

    An open batch size becomes 1. Raises `ModelError` for a file that is not valid ONNX or has no
    quantizer.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(source)
    _settle_domains(proto)
    if not any(node.op_type in _CUSTOM_OPS and node.domain == _DOMAIN for node in proto.graph.node):
        raise ModelError(
            "the file is not a QONNX model: it has no Quant or BipolarQuant node.",
            hint="Export the quantized network with brevitas.export.export_qonnx.",
        )
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
    wrapper = ModelWrapper(proto)
    try:
        _forget_shapes(wrapper)
        folding = FoldConstants(exclude_op_types=list(_CUSTOM_OPS))
        wrapper = _apply(wrapper, SortGraph(), InferShapes(), folding)
        wrapper = _apply(wrapper, RemoveUnusedTensors(), RemoveStaticGraphInputs(), InferShapes())
    # onnx, qonnx and onnxruntime meet a graph that contradicts itself with errors of any type.
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the file is not valid ONNX: {line}", hint="Export it again.") from error
    cleaned: onnx.ModelProto = wrapper.model
    return cleaned


def with_batch(model: onnx.ModelProto, batch: int) -> Any:
    """A copy of a clean model for another batch size, as a qonnx `ModelWrapper`."""
    wrapper = _apply(ModelWrapper(model, make_deepcopy=True), ChangeBatchSize(batch))
    _forget_shapes(wrapper)
    return _apply(wrapper, InferShapes())


def _settle_domains(proto: onnx.ModelProto) -> None:
    """The standard opset first, where qonnx looks for it; quantizers in today's domain."""
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
        if node.op_type in _CUSTOM_OPS and node.domain in ("", *_FORMER_DOMAINS):
            node.domain = _DOMAIN
        for attribute in node.attribute:
            if attribute.name == "rounding_mode" and attribute.s.upper() == b"ROUND_TO_ZERO":
                attribute.s = b"DOWN"  # as qonnx's executor calls it
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    own = max((versions.get(name, 0) for name in QONNX_DOMAINS), default=0) or 1
    if any(n.op_type == "Trunc" and len(n.input) == _TRUNC_1_INPUTS for n in proto.graph.node):
        own = 1
    standard = versions.get("", versions.get("ai.onnx", 1))
    del proto.opset_import[:]
    proto.opset_import.append(onnx.helper.make_opsetid("", standard))
    proto.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, own))


def _forget_shapes(wrapper: ModelWrapper) -> None:
    """Shapes in a file may be absent, open, or of another batch size."""
    del wrapper.graph.value_info[:]
    for value in wrapper.graph.output:
        value.type.tensor_type.ClearField("shape")


def _apply(wrapper: ModelWrapper, *steps: Transformation) -> ModelWrapper:
    """Without qonnx's copy and clean-up around every step: seconds on a deep network."""
    for step in steps:
        wrapper = wrapper.transform(step, make_deepcopy=False, cleanup=False)
    return wrapper
