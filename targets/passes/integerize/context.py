"""`Context`: what is known about the graph's tensors while its nodes are visited in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper

from mpqdeploy.targets.passes.integerize import moves
from mpqdeploy.targets.passes.integerize.builder import (
    NO_PADDING,
    Builder,
    Coded,
    Constant,
    Group,
    Value,
    coded_value,
    logical_shape,
)
from mpqdeploy.targets.passes.integerize.expressions import Doubles, per_channel
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Acc, Expr, Given
from mpqdeploy.targets.views import View

Constants = NDArray[np.generic] | None


class Context:
    """Values and constants by ONNX tensor name, and the program that grows from them."""

    def __init__(self, model: ModelWrapper, builder: Builder) -> None:
        self.model = model
        self.builder = builder
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Constant] = {}

    def constant(self, name: str) -> Constant | None:
        """The constant called `name`; None where it is computed at run time or omitted."""
        if name not in self.constants and name:
            array = self.model.get_initializer(name)
            if array is not None:
                self.constants[name] = Constant(array=array)
        return self.constants.get(name)

    def array(self, node: Node, index: int, *, whole: bool = False) -> NDArray[np.generic] | None:
        """The constant input `index` of `node`; None where it is omitted.

        Raises:
            ModelError: the input is there but computed at run time, or of a type that does not go
                with float32 (unless `whole` numbers are expected).
        """
        name = node.inputs[index] if index < len(node.inputs) else ""
        if not name:
            return None
        constant = self.constant(name)
        if constant is None:
            raise node.error(f"its input {index} ('{name}') is not a constant")
        if not whole:
            check_type(node, constant.array)
        return constant.array

    def array_or_none(self, node: Node, index: int) -> NDArray[np.generic] | None:
        """The constant input `index` of `node`; None where it is computed at run time."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        constant = self.constant(name)
        if constant is not None:
            check_type(node, constant.array)
        return None if constant is None else constant.array

    def required(self, node: Node, index: int, *, whole: bool = False) -> NDArray[np.generic]:
        """As `array`, but an omitted input is a `ModelError`."""
        array = self.array(node, index, whole=whole)
        if array is None:
            raise node.error(f"its input {index} is missing")
        return array

    def integers(
        self, node: Node, index: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """The constant input `index` of whole numbers; `default` where it is omitted."""
        if default is not None and (index >= len(node.inputs) or not node.inputs[index]):
            return default
        array = self.required(node, index, whole=True)
        if array.dtype.kind not in "iu":
            raise node.error(f"its input {index} holds no whole numbers")
        return tuple(int(number) for number in array.reshape(-1))

    def value(self, node: Node, index: int = 0, *, padded: bool = False) -> Value:
        """The run-time input `index` of `node`; unless `padded`, with its zero border.

        Raises:
            ModelError: it is missing or a constant.
        """
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self.values:
            what = f"('{name}') is a constant" if name else "is missing"
            raise node.error(f"its input {index} {what}")
        value = moves.shallow(self.builder, self.values[name])
        return value if padded else moves.unpadded(self.builder, value)

    def image(self, node: Node, index: int = 0, *, padded: bool = False) -> Value:
        """As `value`, with its channels and pixels where its ONNX shape has them."""
        value = self.value(node, index, padded=padded)
        return value if value.padding != NO_PADDING else moves.image(self.builder, value)

    def operand(self, node: Node, index: int, *constants: Constants, padded: bool = False) -> Value:
        """As `value`; as `image` where `constants` have to meet its channels."""
        value = self.value(node, index, padded=padded)
        differ = any(c is not None and c.size > 1 and np.any(c != c.flat[0]) for c in constants)
        if differ and value.shape[1] != value.channels:
            return moves.image(self.builder, value)
        return value

    def seen(self, node: Node, value: Value, view: View, shape: tuple[int, ...]) -> Value:
        """The elements of `value` in the places that `view` gives them."""
        result = moves.seen(self.builder, value, view, node.output, shape)
        result.group.add_sources(self.sources(node))
        return result

    def fall_back(self, node: Node, group: Group, why: str) -> None:
        """Note for the report that `group` computes `node` in float32."""
        group.fallback[f"{node.op} '{node.name}' in float32: {why}"] = None

    def sources(self, node: Node) -> tuple[str, ...]:
        """`node` and the nodes that computed its constant inputs."""
        constants = (self.constants[name] for name in node.inputs if name in self.constants)
        return (node.name, *(name for constant in constants for name in constant.sources))

    def elementwise(self, node: Node, value: Value, expr: Expr, reason: str = "") -> Value:
        """The result of `node`, computed in the group of its operand `value`."""
        value.group.add_sources(self.sources(node))
        return Value(
            name=node.output, shape=value.shape, group=value.group, expr=expr, reason=reason
        )

    def coded(self, node: Node, value: Value, coded: Coded) -> Value:
        """As `elementwise`, for a result that is an integer code."""
        value.group.add_sources(self.sources(node))
        result = coded_value(node.output, value.shape, value.group, coded)
        return replace(result, padding=value.padding)

    def renamed(self, node: Node, value: Value, shape: tuple[int, ...]) -> Value:
        """The same elements under another name and ONNX shape."""
        value.group.add_sources(self.sources(node))
        return replace(value, name=node.output, shape=shape)

    def given(self, node: Node, index: int, shape: tuple[int, ...]) -> Value:
        """The constant input `index` of `node`, spread to `shape`, as a value: where it differs
        between pixels, or is joined to computed ones.

        Raises:
            ModelError: it does not fit `shape`.
        """
        array = self.required(node, index)
        try:
            spread = np.broadcast_to(array, shape)
        except ValueError:
            raise node.error(
                f"its constant of shape {list(array.shape)} does not fit {list(shape)}"
            ) from None
        batch, height, width, channels = logical = logical_shape(shape)
        values = spread.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
        anchor = Given(values=np.ascontiguousarray(values, np.float32))
        group = self.builder.group(logical, anchor)
        name = node.inputs[index]
        group.add_sources(self.constants[name].sources)
        reason = f"'{name}' is a constant"
        return Value(name=name, shape=shape, group=group, expr=Acc(), reason=reason)

    def differs_between_pixels(self, array: NDArray[np.generic], value: Value) -> bool:
        """Whether a constant that meets `value` elementwise is neither one number nor one for every
        channel; one that does not fit is left to `per_channel`."""
        if array.size == 1 or np.all(array == array.flat[0]) or not _fits(array, value.shape):
            return False
        rank, channels = len(value.shape), value.channels
        axes = (1,) * (rank - array.ndim) + array.shape
        expected = (1, channels) + (1,) * (rank - 2)
        return axes != expected or value.shape[1] != channels

    def per_channel(self, node: Node, array: NDArray[np.generic], value: Value) -> Doubles:
        """A constant that meets `value` elementwise, as shape `[1]` or `[C]`.

        Raises:
            ModelError: it differs between pixels, or is larger than `value`.
        """
        if not _fits(array, value.shape):
            raise node.error(
                f"its constant of shape {list(array.shape)} does not fit {list(value.shape)}"
            )
        if array.ndim > len(value.shape):
            raise node.error(f"its constant has {array.ndim} axes, its input {len(value.shape)}")
        if self.differs_between_pixels(array, value):
            raise node.error(
                f"its constant of shape {list(array.shape)} is neither a scalar nor one value for "
                f"each of {value.channels} channels"
            )
        return per_channel(array)


def _fits(array: NDArray[np.generic], shape: tuple[int, ...]) -> bool:
    """Whether a constant can be spread to a shape, and the shape stays."""
    try:
        return np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False


def check_type(node: Node, array: NDArray[np.generic]) -> None:
    """Constants are of their input's type, float32; only `Quant` converts what it is given.

    Raises:
        ModelError: another type, or NaN.
    """
    converts = node.op in ("Quant", "IntQuant") and array.dtype in (np.float64, np.int64, np.int32)
    if array.dtype != np.float32 and not converts:
        raise node.error(f"its constant is of type {array.dtype}, not float32")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise node.error("its constant holds NaN")


Handler = Callable[[Context, Node], Value]
