"""tokens: matrix products over the last axis of `[N, T, F]` or `[N, H, W, F]` as convolutions.

Such a product computes every token, or pixel, from its own features: a 1 x 1 convolution whose
channels are the features. They come last here and second in a convolution, so the product becomes

    Transpose (features first), Conv, Transpose (features last)

and the second Transpose then sinks below the elementwise nodes behind it, until it meets the first
one of the next product, and both are gone. Biases and scales per feature are per channel then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper

from mpqdeploy.targets.passes.dialects import AXES_ARE_SEPARATE, QUANTIZERS
from mpqdeploy.targets.passes.node import Node, unused

RANKS = (3, 4)

# Those that treat all elements alike, but for what their constants say.
_ELEMENTWISE = frozenset(
    (
        *QUANTIZERS,
        "Trunc",
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Min", "Max", "Clip", "Pow", "PRelu"),
        *("Relu", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Exp", "Sqrt"),
        *("Erf", "Gelu"),
        "Identity",
    )
)
_OF_TWO = ("Add", "Sub", "Mul")


def products_of_tokens(model: ModelWrapper) -> bool:
    """Rewrite these products in place; whether there were any.

    Every tensor keeps its name and values, but for new ones in between, whose shapes have to be
    inferred.
    """
    rewriting = _Rewriting(model)
    found = [node for node in list(model.graph.node) if rewriting.is_product(node)]
    for node in found:
        rewriting.replace(node)
    rewriting.sink()
    means = [node for node in model.graph.node if rewriting.is_mean(node)]
    for node in means:
        rewriting.turn_mean(node)
    return bool(found or means)


def _first(rank: int) -> list[int]:
    """The perm that takes the features to the front."""
    return [0, rank - 1, *range(1, rank - 1)]


def _last(rank: int) -> list[int]:
    """Its inverse."""
    return [0, *range(2, rank), 1]


class _Rewriting:
    """The graph while it changes; `_backs` are the Transposes that sink."""

    def __init__(self, model: ModelWrapper) -> None:
        self._model = model
        self._graph = model.graph
        self._opset = model.get_opset_imports().get("", 0)
        self._known = _known(model)
        self._turned: dict[str, str] = {}  # features first, of tensors with the features last
        self._backs: list[NodeProto] = []
        self._tag = unused(model, "features_first")  # in all new names

    def is_product(self, node: NodeProto) -> bool:
        if node.op_type != "MatMul" or node.input[0] in self._known:
            return False
        shapes = [self._model.get_tensor_shape(name) or [] for name in node.input]
        matrix = node.input[1] in self._known and len(shapes[1]) == 2
        return matrix and len(shapes[0]) in RANKS and shapes[0][-1] == shapes[1][0]

    def replace(self, node: NodeProto) -> None:
        """A product by three nodes; the convolution has its name."""
        rank = len(self._model.get_tensor_shape(node.input[0]))
        weights = self._moved_weights(node.input[1], rank)
        result = self._name(node.output[0])
        inputs = [self._features_first(node.input[0], rank), weights]
        name = node.name or node.output[0]
        self._add(helper.make_node("Conv", inputs, [result], name=name))
        self._back(result, node.output[0], rank)
        self._graph.node.remove(node)

    def sink(self) -> None:
        """Move every Transpose behind a product as far down as it goes."""
        while self._backs:
            back = self._backs.pop()
            for reader in list(self._model.find_consumers(back.output[0])):
                if back.output[0] in reader.input:  # once, where it reads it twice
                    self._through(back, reader)
            kept = back.output[0] in {port.name for port in self._graph.output}
            if not kept and not self._model.find_consumers(back.output[0]):
                self._graph.node.remove(back)

    def _through(self, back: NodeProto, reader: NodeProto) -> None:
        """Let `reader` read what is before `back`, if it can."""
        rank = len(self._model.get_tensor_shape(back.output[0]))
        if reader.op_type == "Transpose":
            self._cancel(back, reader)
        elif reader.op_type in _ELEMENTWISE and len(reader.output) == 1:
            self._elementwise(back, reader, rank)
        elif reader.op_type in ("Softmax", "LogSoftmax") and self._opset >= AXES_ARE_SEPARATE:
            axis = Node(reader).integer("axis", -1) % rank
            _set(reader, axis=_last(rank)[axis])
            reader.input[0] = back.input[0]
            self._behind(reader, rank)
        elif reader.op_type == "ReduceMean":
            self._reduce(back, reader, rank)

    def _cancel(self, back: NodeProto, reader: NodeProto) -> None:
        """Two Transposes are one, or none."""
        first, second = (Node(node).integers("perm", ()) for node in (back, reader))
        if len(first) != len(second):
            return
        together = [first[axis] for axis in second]
        reader.input[0] = back.input[0]
        _set(reader, perm=together)
        if together == sorted(together):
            reader.op_type = "Identity"
            del reader.attribute[:]
            self._drop(reader)

    def _drop(self, identity: NodeProto) -> None:
        """Readers of `identity` read what it reads, unless it writes a result of the graph."""
        if identity.output[0] in {port.name for port in self._graph.output}:
            return
        for reader in self._model.find_consumers(identity.output[0]):
            names = [
                identity.input[0] if name == identity.output[0] else name for name in reader.input
            ]
            reader.input[:] = names
        self._turned = {a: b for a, b in self._turned.items() if b != identity.output[0]}
        self._graph.node.remove(identity)

    def _elementwise(self, back: NodeProto, reader: NodeProto, rank: int) -> None:
        computed = [name for name in reader.input if name and name not in self._known]
        shapes = {
            tuple(self._model.get_tensor_shape(name) or ()) for name in (*computed, *reader.output)
        }
        alone = set(computed) == {back.output[0]}
        if len(shapes) != 1 or not (alone or reader.op_type in _OF_TWO):
            return
        reader.input[:] = [
            self._before(name, rank) if name in computed else self._moved(name, rank)
            for name in reader.input
        ]
        self._behind(reader, rank)

    def _reduce(self, back: NodeProto, reader: NodeProto, rank: int) -> None:
        """A mean over axes whose names change; without them the others may be in order again."""
        axes = self._axes(reader, rank)
        order, keeps = _last(rank), bool(Node(reader).integer("keepdims", 1))
        left = [order[axis] for axis in range(rank) if axis not in axes]
        if not axes or (not keeps and left != sorted(left)):
            return
        self._set_axes(reader, sorted(order[axis] for axis in axes))
        reader.input[0] = back.input[0]
        if keeps:
            self._behind(reader, rank)

    def is_mean(self, node: NodeProto) -> bool:
        """Of all tokens, or pixels, with the features last."""
        if node.op_type != "ReduceMean" or node.input[0] in self._known:
            return False
        rank = len(self._model.get_tensor_shape(node.input[0]) or [])
        whole = rank in RANKS and sorted(self._axes(node, rank)) == list(range(1, rank - 1))
        return whole and not Node(node).integer("keepdims", 1)

    def turn_mean(self, node: NodeProto) -> None:
        rank = len(self._model.get_tensor_shape(node.input[0]))
        node.input[0] = self._before(node.input[0], rank)
        self._set_axes(node, list(range(2, rank)))

    def _axes(self, mean: NodeProto, rank: int) -> list[int]:
        """Of a ReduceMean, counted from the first; none where they are not known."""
        given = mean.input[1] if len(mean.input) > 1 else ""
        found = self._model.get_initializer(given) if given else None
        axes = Node(mean).integers("axes", ()) if found is None else found.reshape(-1).tolist()
        return [int(axis) % rank for axis in axes]

    def _set_axes(self, mean: NodeProto, axes: list[int]) -> None:
        if len(mean.input) > 1 and mean.input[1]:
            mean.input[1] = self._constant(self._name(mean.output[0], "_axes"), np.array(axes))
        else:
            _set(mean, axes=axes)

    # -- names ---------------------------------------------------------------------------------

    def _name(self, of: str, what: str = "") -> str:
        return f"{of}{what}_{self._tag}"

    def _before(self, name: str, rank: int) -> str:
        """A computed tensor with its features first."""
        producer = self._model.find_producer(name)
        turned = producer is not None and producer.op_type == "Transpose"
        if turned and list(Node(producer).integers("perm", ())) == _last(rank):
            return str(producer.input[0])
        return self._features_first(name, rank)

    def _features_first(self, name: str, rank: int) -> str:
        if name not in self._turned:
            result = self._name(name, "_to")
            attributes = {"perm": _first(rank), "name": result}
            self._add(helper.make_node("Transpose", [name], [result], **attributes))
            self._turned[name] = result
        return self._turned[name]

    def _behind(self, reader: NodeProto, rank: int) -> None:
        """The old output of a node that now writes it with the features first."""
        output = reader.output[0]
        reader.output[0] = self._name(output)
        self._back(reader.output[0], output, rank)

    def _back(self, source: str, target: str, rank: int) -> None:
        name = self._name(target, "_from")
        back = helper.make_node("Transpose", [source], [target], name=name, perm=_last(rank))
        self._backs.append(self._add(back))

    def _moved(self, name: str, rank: int) -> str:
        """A constant that was broadcast to `rank` axes, features last, as features first."""
        shape = list(self._model.get_tensor_shape(name) or []) if name else []
        if int(np.prod(shape)) == 1:
            return name
        whole = [1] * (rank - len(shape)) + shape
        array = self._model.get_initializer(name)
        if array is not None:
            moved = array.reshape(whole).transpose(_first(rank))
            return self._constant(self._name(name, f"_{rank}"), np.ascontiguousarray(moved))
        reshaped = self._reshaped(name, whole)
        return self._known_node("Transpose", [reshaped], self._name(reshaped), _first(rank))

    def _moved_weights(self, name: str, rank: int) -> str:
        """`[F, O]` as the weights `[O, F, 1]` or `[O, F, 1, 1]` of a convolution."""
        inner, out = self._model.get_tensor_shape(name)
        turned = self._known_node("Transpose", [name], self._name(name, "_turned"), [1, 0])
        return self._reshaped(turned, [out, inner, *[1] * (rank - 2)])

    def _reshaped(self, name: str, shape: Sequence[int]) -> str:
        size = "x".join(map(str, shape))
        extents = self._constant(self._name(size), np.array(shape, np.int64))
        return self._known_node("Reshape", [name, extents], self._name(name, f"_{size}"))

    def _known_node(
        self, op: str, inputs: list[str], result: str, perm: Sequence[int] | None = None
    ) -> str:
        """A node on constants; one for all readers."""
        if result not in self._known:
            attributes = {} if perm is None else {"perm": list(perm)}
            self._add(helper.make_node(op, inputs, [result], name=result, **attributes))
            self._known.add(result)
        return result

    def _constant(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        if name not in self._known:
            self._graph.initializer.append(numpy_helper.from_array(array, name))
            self._known.add(name)
        return name

    def _add(self, node: NodeProto) -> NodeProto:
        self._graph.node.append(node)
        return self._graph.node[-1]


def _known(model: ModelWrapper) -> set[str]:
    """Tensors that depend on constants alone."""
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in found for name in node.input if name):
            found.update(node.output)
    return found


def _set(node: NodeProto, **attributes: int | list[int]) -> None:
    for name, value in attributes.items():
        for old in [old for old in node.attribute if old.name == name]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, value))
