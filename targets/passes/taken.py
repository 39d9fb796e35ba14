"""taken: one index of an axis is taken before the others are turned.

Queries, keys and values of one product are exported as

    Reshape [N, T, 3, heads, features], Transpose [3, N, heads, T, features], index 0, 1 and 2

and between the last two the batch is not the first axis. Taking an index and turning what is left
commute: so the index is taken of the Transpose's input, and each part is turned by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper

from mpqdeploy.targets.passes.node import Node, unused


@dataclass(frozen=True, eq=False)
class _Taken:
    """`index` of the first axis, under the name `output`, by `nodes`."""

    index: int
    output: str
    nodes: tuple[NodeProto, ...]


def indices_before_turns(model: ModelWrapper) -> bool:
    """Rewrite such Transposes in place; whether there were any. Results keep names and values;
    shapes have to be inferred again."""
    found = False
    for turn in [node for node in model.graph.node if node.op_type == "Transpose"]:
        order = Node(turn).integers("perm", ())
        readers = model.find_consumers(turn.output[0])
        if not order or order[0] == 0 or not readers:
            continue
        taken = [_taken(model, reader) for reader in readers]
        parts = [part for part in taken if part is not None]
        if len(parts) == len(taken) and turn.output[0] not in _outputs(model):
            _rewrite(model, turn, order, parts)
            found = True
    return found


def _outputs(model: ModelWrapper) -> set[str]:
    return {port.name for port in model.graph.output}


def _taken(model: ModelWrapper, reader: NodeProto) -> _Taken | None:
    """What `reader` takes of the first axis, if that is one index: by a Gather, or by a Slice that
    a Squeeze follows."""
    if reader.op_type == "Gather":
        index = _constant(model, reader, 1)
        first = Node(reader).integer("axis", 0) == 0
        if not first or index is None or index.ndim:
            return None
        return _Taken(int(index), reader.output[0], (reader,))
    followers = model.find_consumers(reader.output[0]) or []
    if reader.op_type != "Slice" or len(followers) != 1 or followers[0].op_type != "Squeeze":
        return None
    numbers = [_constant(model, reader, place) for place in (1, 2, 3)]
    steps, gone = _constant(model, reader, 4), _constant(model, followers[0], 1)
    if gone is None:  # before opset 13
        gone = np.array(Node(followers[0]).integers("axes", ()))
    plain = steps is None or np.all(steps == 1)
    known = [array for array in (*numbers, gone) if array is not None and array.size == 1]
    if len(known) < len(numbers) + 1 or not plain or reader.output[0] in _outputs(model):
        return None
    start, end, axis, squeezed = (int(array.reshape(-1)[0]) for array in known)
    if start < 0 or end != start + 1 or axis != 0 or squeezed != 0:
        return None
    return _Taken(start, followers[0].output[0], (reader, followers[0]))


def _constant(model: ModelWrapper, node: NodeProto, place: int) -> np.ndarray | None:
    if place >= len(node.input) or not node.input[place]:
        return None
    array = model.get_initializer(node.input[place])
    return None if array is None else np.asarray(array)


def _rewrite(
    model: ModelWrapper, turn: NodeProto, order: tuple[int, ...], parts: list[_Taken]
) -> None:
    graph, axis = model.graph, order[0]
    left = [place - (place > axis) for place in order[1:]]
    at = list(graph.node).index(turn)
    graph.node.remove(turn)
    for number, part in enumerate(parts):
        index, inner = (unused(model, f"{part.output}_{word}") for word in ("index", "unturned"))
        graph.initializer.append(numpy_helper.from_array(np.array(part.index, np.int64), index))
        nodes = (
            helper.make_node("Gather", [turn.input[0], index], [inner], name=inner, axis=axis),
            helper.make_node(
                "Transpose", [inner], [part.output], name=part.nodes[-1].name, perm=left
            ),
        )
        for node in part.nodes:
            graph.node.remove(node)
        for offset, node in enumerate(nodes):
            graph.node.insert(at + 2 * number + offset, node)
    for info in [info for info in graph.value_info if info.name == turn.output[0]]:
        graph.value_info.remove(info)
