"""Names that say which layer of the network a node is: `layer1.0.conv1`, not `Conv_7`.

torch's exporter writes the scope that every node came from into the node's metadata. That survives
qonnx's clean-up, which numbers the nodes. The metadata itself (scopes, source lines, folders of the
machine that exported) is dropped afterwards: it does not belong into a file that ships.
"""

from __future__ import annotations

import onnx

from mpqdeploy.export.sharing import module_of, run_of

_LAYER_OPS = frozenset({"BatchNormalization", "Conv", "Gemm", "MatMul", "Quant", "BipolarQuant"})


def name_nodes(model: onnx.ModelProto, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Rename nodes after their module and tensors after their node, in place.

    A layer's own operation takes the module's name, anything else the module's name and its
    operator: `layer1.0.add`. The k-th run of a layer is `<name>_<k>`. Tensors become `<node>` (a
    node's only output), `<node>.out<i>`, and `<node>.param<i>` for constants.
    """
    taken: set[str] = set()
    for node in model.graph.node:
        node.name = _unique(_layer_name(node), taken)
    _rename_tensors(model.graph, _tensor_names(model.graph, inputs, outputs))
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]


def _layer_name(node: onnx.NodeProto) -> str:
    scope = module_of(node).removesuffix(".export_handler")
    if not scope:
        return str(node.op_type).lower()
    if node.op_type in _LAYER_OPS:
        return run_name(scope, run_of(node))
    module, _, _ = scope.partition(".act_quant")
    return f"{module}.{node.op_type.lower()}"


def run_name(layer: str, run: int) -> str:
    """The name of a layer's run, counted from 1."""
    return layer if run == 1 else f"{layer}_{run}"


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _tensor_names(
    graph: onnx.GraphProto, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> dict[str, str]:
    names = dict(zip((value.name for value in graph.input), inputs, strict=True))
    names.update(zip((value.name for value in graph.output), outputs, strict=True))
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for index, output in enumerate(node.output):
            names.setdefault(output, node.name if index == 0 else f"{node.name}.out{index}")
        for index, parameter in enumerate(name for name in node.input if name in constants):
            names.setdefault(parameter, f"{node.name}.param{index}")
    return names


def _rename_tensors(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = names.get(annotation.tensor_name, annotation.tensor_name)
