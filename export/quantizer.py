"""`Quantizer`: what a QONNX `Quant` or `BipolarQuant` node says, read once and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import Rounding

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
QUANT_OPS = ("Quant", "IntQuant", "BipolarQuant")
_ROUNDINGS: Mapping[str, Rounding] = {
    "ROUND": "ROUND",
    "HALF_EVEN": "ROUND",
    "FLOOR": "FLOOR",
    "CEIL": "CEIL",
    "DOWN": "ROUND_TO_ZERO",
    "ROUND_TO_ZERO": "ROUND_TO_ZERO",
    "UP": "UP",
    "HALF_UP": "HALF_UP",
    "HALF_DOWN": "HALF_DOWN",
}
_MAX_BITS = 32

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantizer:
    """value = scale * (code - zero_point), code = clip(round(x / scale + zero_point), low, high).

    `scale` and `zero_point` broadcast against x. Where `bipolar`, the code is +1 for x / scale +
    zero_point >= 0 and -1 below (so sign(0) = +1), which is also what a signed 1-bit `Quant` means.
    """

    name: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.float32]
    bits: int
    signed: bool
    narrow: bool = False
    bipolar: bool = False
    rounding: Rounding = "ROUND"

    @property
    def low(self) -> int:
        if self.bipolar:
            return -1
        return -(1 << (self.bits - 1)) + int(self.narrow) if self.signed else 0

    @property
    def high(self) -> int:
        if self.bipolar:
            return 1
        return (1 << (self.bits - int(self.signed))) - 1 - int(self.narrow and not self.signed)

    def before(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """The value that is rounded, float32 as every executor computes it."""
        return np.asarray(np.asarray(x, np.float32) / self.scale + self.zero_point, np.float32)

    def quantize(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Codes of `x`, same shape."""
        before = self.before(x)
        if self.bipolar:
            return np.where(before >= 0, 1, -1)
        rounders: Mapping[Rounding, Any] = {
            "ROUND": np.round,
            "FLOOR": np.floor,
            "CEIL": np.ceil,
            "ROUND_TO_ZERO": np.trunc,
            "UP": lambda y: np.sign(y) * np.ceil(np.abs(y)),
            "HALF_UP": lambda y: np.sign(y) * np.floor(np.abs(y) + 0.5),
            "HALF_DOWN": lambda y: np.sign(y) * np.ceil(np.abs(y) - 0.5),
        }
        # Clipped in float64: 2**31 - 1 is no float32.
        rounded = rounders[self.rounding](before).astype(np.float64)
        codes: NDArray[np.int64] = np.clip(rounded, self.low, self.high).astype(np.int64)
        return codes

    def dequantize(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        shifted = np.asarray(codes, np.float32) - self.zero_point
        return np.asarray(shifted * self.scale, np.float32)

    def codes_of(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Codes behind values that `dequantize` gave."""
        return np.rint(np.asarray(values, np.float64) / self.scale + self.zero_point).astype(
            np.int64
        )


def initializers(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def is_quantizer(node: onnx.NodeProto) -> bool:
    return node.op_type in QUANT_OPS and node.domain in QONNX_DOMAINS


def read_quantizer(node: onnx.NodeProto, constants: Arrays) -> Quantizer:
    """Read one node. Raises `ModelError` where a parameter is computed, absent or out of range."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    scale = _constant(node, 1, "scale", constants)
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) has a scale that is not positive.",
            hint="Train or calibrate the quantizer before the export.",
        )
    if node.op_type == "BipolarQuant":
        zero = np.zeros(1, np.float32)
        return Quantizer(
            name=node.name, scale=scale, zero_point=zero, bits=1, signed=True, bipolar=True
        )
    bits = _bits(node, _constant(node, 3, "bit width", constants))
    signed = bool(attributes.get("signed", 1))
    return Quantizer(
        name=node.name,
        scale=scale,
        zero_point=_constant(node, 2, "zero point", constants),
        bits=bits,
        signed=signed,
        narrow=bool(attributes.get("narrow", 1)),
        bipolar=bits == 1 and signed,
        rounding=read_rounding(node, attributes.get("rounding_mode", b"ROUND")),
    )


def _constant(
    node: onnx.NodeProto, index: int, what: str, constants: Arrays
) -> NDArray[np.float32]:
    name = node.input[index] if len(node.input) > index else ""
    if name not in constants:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) has no constant {what}.",
            hint="Only quantizers with fixed parameters can be exported; fold the constants first.",
        )
    return np.asarray(constants[name], np.float32)


def _bits(node: onnx.NodeProto, value: NDArray[np.float32]) -> int:
    width = float(value.reshape(-1)[0]) if value.size == 1 else float("nan")
    if not (width.is_integer() and 1 <= width <= _MAX_BITS):
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) has bit width {value.tolist()}.",
            hint=f"Use one whole number from 1 to {_MAX_BITS}.",
        )
    return int(width)


def read_rounding(node: onnx.NodeProto, mode: bytes | str) -> Rounding:
    """QONNX's name of a rounding mode; a `ModelError` for one that it does not define."""
    text = (mode.decode() if isinstance(mode, bytes) else mode).upper()
    if text not in _ROUNDINGS:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) rounds by {text!r}.",
            hint=f"Use one of {', '.join(_ROUNDINGS)}.",
        )
    return _ROUNDINGS[text]
