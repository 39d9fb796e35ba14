"""`Emitter`: collects the nodes and initializers that one QONNX node becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BASE_OPSET = 21
"""The first opset whose QuantizeLinear and DequantizeLinear know 4 and 16 bits."""


class Emitter:
    """Nodes in order, initializers, and the opset that they need, under one node's name.

    `taken` are the names in the graph so far; every new one is added to it.
    """

    def __init__(self, name: str, taken: set[str]) -> None:
        self.name = name
        self._taken = taken
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.opset = BASE_OPSET

    def constant(self, suffix: str, value: NDArray[Any] | np.generic) -> str:
        return self.packed(suffix, numpy_helper.from_array(np.asarray(value)))

    def packed(self, suffix: str, tensor: onnx.TensorProto) -> str:
        """Add `tensor` under a name of its own, which is returned."""
        tensor.name = self._free(f"{self.name}.{suffix}")
        self.initializers.append(tensor)
        return str(tensor.name)

    def node(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node and return its output's name (made up unless given)."""
        name = self._free(f"{self.name}.{op_type}")
        output = output or name
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def _free(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate)
        return candidate


def axis_of(parameter: NDArray[Any], rank: int) -> int | None:
    """The one axis along which a broadcast parameter varies; None for more than one.

    A parameter of one element gives 0, which no per-tensor quantization looks at.
    """
    shape = (1,) * (rank - parameter.ndim) + parameter.shape
    varying = [axis for axis, size in enumerate(shape) if size != 1]
    if len(varying) > 1:
        return None
    return varying[0] if varying else 0
