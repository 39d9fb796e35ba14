"""`Node`: an ONNX node, its attributes read, with errors that name it; and names that none has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, helper
from qonnx.core.modelwrapper import ModelWrapper

from mpqdeploy.core import ModelError


class Node:
    """One ONNX node: `name`, `op` and the tensors' names; an omitted input is ""."""

    def __init__(self, proto: NodeProto) -> None:
        self.proto = proto
        self.name: str = proto.name
        self.op: str = proto.op_type
        self.inputs: tuple[str, ...] = tuple(proto.input)
        self.output: str = proto.output[0]
        self._attributes: dict[str, Any] = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute
        }

    def error(self, why: str, *, hint: str = "") -> ModelError:
        """A `ModelError` that says which node cannot be compiled and why; the caller raises it."""
        return ModelError(f"Node '{self.name}' ({self.op}): {why}", hint=hint)

    def has(self, name: str) -> bool:
        return name in self._attributes

    def integer(self, name: str, default: int) -> int:
        value = self._attributes.get(name, default)
        if not isinstance(value, int):
            raise self.error(f"its attribute {name} is no whole number")
        return value

    def number(self, name: str, default: float) -> float:
        if name not in self._attributes:
            return default
        value = self._attributes[name]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"its attribute {name} is no finite number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self._attributes.get(name, default)
        if not isinstance(value, bytes | str):
            raise self.error(f"its attribute {name} is no text")
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def integers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        values = self._attributes.get(name, default)
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise self.error(f"its attribute {name} is no list of whole numbers")
        if not all(isinstance(value, int) for value in values):
            raise self.error(f"its attribute {name} is no list of whole numbers")
        return tuple(values)

    def numbers(self, name: str) -> tuple[float, ...]:
        values = self._attributes.get(name)
        if not isinstance(values, Sequence) or not all(isinstance(v, int | float) for v in values):
            raise self.error(f"its attribute {name} is no list of numbers")
        return tuple(float(value) for value in values)

    def pair(self, name: str, default: Sequence[int], rank: int = 4) -> tuple[int, int]:
        """An attribute with one value per spatial axis of an input of `rank` axes. Rank 3 is an
        image of one row, for which the default counts, or 1 where there is none. A `ModelError`
        for another number of values."""
        values = self.integers(name, default)
        if rank == 3 and len(values) == 1:
            return default[0] if default else 1, values[0]
        if len(values) != 2 or (rank == 3 and self.has(name)):
            raise self.error(f"{name} has {len(values)} values; only 2-D images are supported")
        return values[0], values[1]


def unused(model: ModelWrapper, tag: str) -> str:
    """`tag`, made longer until no name in the graph has it."""
    names = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        names.update((node.name, *node.input, *node.output))
    while any(tag in name for name in names):
        tag += "_"
    return tag
