"""Modules that a network runs several times, such as a detector's heads on every pyramid level.

The exporter writes a run's nodes as if each run had a module and weights of its own. Here the runs
get numbers while the nodes are still in the order of the program, and their weights become one.
"""

from __future__ import annotations

import ast
from collections import Counter

import onnx

from mpqdeploy.export.quantizer import is_quantizer

_SCOPES = "pkg.torch.onnx.name_scopes"
_RUN = "mpqdeploy.run"


def number_runs(model: onnx.ModelProto) -> None:
    """Note at every node which run of its module it belongs to, from 1, in its metadata."""
    runs: Counter[tuple[str, str]] = Counter()
    for node in model.graph.node:
        place = (module_of(node), node.op_type)
        runs[place] += 1
        node.metadata_props.add(key=_RUN, value=str(runs[place]))


def module_of(node: onnx.NodeProto) -> str:
    """The module that a node came from, as torch's exporter noted; "" where it did not."""
    found = [entry.value for entry in node.metadata_props if entry.key == _SCOPES]
    # The first scope is the network, the last the operation.
    scopes: list[str] = ast.literal_eval(found[0])[1:-1] if found else []
    return scopes[-1] if scopes else ""


def run_of(node: onnx.NodeProto) -> int:
    """Which run of its module a node belongs to, from 1; 1 where nobody numbered it."""
    return next((int(entry.value) for entry in node.metadata_props if entry.key == _RUN), 1)


def share_weights(model: onnx.ModelProto) -> None:
    """Make equal quantized weights one: equal constants, then quantizers that read the same ones.

    In place. Activations are left alone: their quantizers are compared run by run.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = [node for node in graph.node if is_quantizer(node) and node.input[0] in constants]
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for name in (name for node in weights for name in node.input if name):
        same[name] = first.setdefault(_content(constants[name]), name)
    known: dict[bytes, str] = {}
    for node in weights:
        node.input[:] = [same.get(name, name) for name in node.input]
        output = known.setdefault(_reads(node), node.output[0])
        if output != node.output[0]:
            same[node.output[0]] = output
            graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def _content(tensor: onnx.TensorProto) -> bytes:
    """Everything but the name."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("name")
    del copy.metadata_props[:]
    return bytes(copy.SerializeToString(deterministic=True))


def _reads(node: onnx.NodeProto) -> bytes:
    """What a node computes from what."""
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    bare.input.extend(node.input)
    bare.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    return bytes(bare.SerializeToString(deterministic=True))
