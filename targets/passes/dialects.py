"""dialects: QONNX as it was written over the years, as one.

Domains that were renamed, names that are missing or double, attributes that qonnx's executor wants
otherwise, and opsets that are newer than what executes them.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto

QONNX_DOMAIN = "qonnx.custom_op.general"
OLD_DOMAINS = ("onnx.brevitas", "finn.custom_op.general", "finn", "qonnx")
STANDARD_DOMAINS = ("", "ai.onnx")
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
QONNX_OPS = (*QUANTIZERS, "Trunc", "MultiThreshold")
OLDEST_OPSET, TRIED_OPSET = 7, 25
AXES_ARE_SEPARATE = 13  # the opset from which Softmax's axis is one, and not all from it on
TRUNC_1_INPUTS = 5  # of version 1 of Trunc; version 2 has one more


def settle(proto: ModelProto) -> None:
    """Brevitas' and FINN's former names of QONNX's domain; the standard domain comes first."""
    for node in proto.graph.node:
        if node.domain in OLD_DOMAINS or (node.op_type in QONNX_OPS and not node.domain):
            node.domain = QONNX_DOMAIN
        _settle_rounding(node)
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    standard = versions.get("", versions.get("ai.onnx", 0))
    standard = _lowered(proto, standard)
    own = max((versions.get(name, 0) for name in (QONNX_DOMAIN, *OLD_DOMAINS)), default=0) or 1
    if any(n.op_type == "Trunc" and len(n.input) == TRUNC_1_INPUTS for n in proto.graph.node):
        own = 1
    del proto.opset_import[:]
    # qonnx's constant folding takes the first entry for the version of the standard operators.
    proto.opset_import.append(onnx.helper.make_opsetid("", standard or 1))
    proto.opset_import.append(onnx.helper.make_opsetid(QONNX_DOMAIN, own))
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    _make_names_unique(proto)


def _lowered(proto: ModelProto, version: int) -> int:
    """`version`, or `TRIED_OPSET` where every node is defined as it was there: onnxruntime, which
    folds constants and is compared with, may not know onnx's newest."""
    if version <= TRIED_OPSET:
        return version
    operators = {node.op_type for node in proto.graph.node if node.domain in STANDARD_DOMAINS}
    known = [name for name in operators if onnx.defs.has(name, version, "")]
    same = all(
        onnx.defs.get_schema(name, version, "").since_version <= TRIED_OPSET for name in known
    )
    return TRIED_OPSET if same else version


def _settle_rounding(node: NodeProto) -> None:
    """As qonnx's executor wants to have it: another name, and a default that it does not know."""
    modes = [part for part in node.attribute if part.name == "rounding_mode"]
    for mode in modes:
        if mode.s.upper() == b"ROUND_TO_ZERO":
            mode.s = b"DOWN"
    if node.op_type == "Trunc" and not modes:
        node.attribute.append(onnx.helper.make_attribute("rounding_mode", "FLOOR"))


def _make_names_unique(proto: ModelProto) -> None:
    seen: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        if node.name in seen:
            node.name = f"{node.name}_{index}"
        seen.add(node.name)
