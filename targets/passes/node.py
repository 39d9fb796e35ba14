"""`Node`: an ONNX node with its attributes read, and errors that name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, helper

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
        return int(self._attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        return float(self._attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(value) for value in self._attributes.get(name, default))

    def pair(self, name: str, default: Sequence[int]) -> tuple[int, int]:
        """An attribute with one value per spatial axis; a `ModelError` unless there are two."""
        values = self.integers(name, default)
        if len(values) != 2:
            raise self.error(f"{name} has {len(values)} values; only 2-D images are supported")
        return values[0], values[1]
