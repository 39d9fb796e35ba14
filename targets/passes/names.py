"""Names that a graph does not have yet."""

from __future__ import annotations

from qonnx.core.modelwrapper import ModelWrapper


def unused(model: ModelWrapper, tag: str) -> str:
    """`tag`, made longer until no name in the graph has it."""
    names = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        names.update((node.name, *node.input, *node.output))
    while any(tag in name for name in names):
        tag += "_"
    return tag
