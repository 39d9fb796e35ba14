"""Quantizers of computed tensors: QuantizeLinear and DequantizeLinear, or plain arithmetic.

Codes of up to 8 bits are stored in uint8, signed ones shifted by 128: onnxruntime's integer kernels
are fastest on uint8 activations. QONNX rounds x / scale + zero point, QuantizeLinear adds the zero
point after rounding; with ties to even the two differ where the zero point is odd. So a zero point
is added first, by Add, and QuantizeLinear rounds at scale 1: the codes are QONNX's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.agreement import Rounding
from mpqdeploy.export.quantizer import Quantizer
from mpqdeploy.export.standard.graph import Emitter, axis_of

_UINT8 = 255


def emit_activation(
    emitter: Emitter, quantizer: Quantizer, source: str, rank: int, output: str
) -> None:
    """Quantize and dequantize `source` (of `rank` dimensions) into `output`."""
    if quantizer.bipolar:
        _emit_bipolar(emitter, quantizer, source, output)
    elif not _emit_linear(emitter, quantizer, source, rank, output):
        _emit_arithmetic(emitter, quantizer, source, output)


def _emit_bipolar(emitter: Emitter, quantizer: Quantizer, source: str, output: str) -> None:
    """+scale where x >= 0, else -scale, so that 0 becomes +1."""
    if quantizer.zero_point.any():
        source = _shifted(emitter, quantizer, source)
    zero = emitter.constant("threshold", np.zeros((), np.float32))
    positive = emitter.node("GreaterOrEqual", [source, zero])
    one = np.ones((), np.float32)
    plus = emitter.constant("plus", quantizer.dequantize(one))
    minus = emitter.constant("minus", quantizer.dequantize(-one))
    emitter.node("Where", [positive, plus, minus], output)


def _emit_linear(
    emitter: Emitter, quantizer: Quantizer, source: str, rank: int, output: str
) -> bool:
    """QuantizeLinear -> Clip where the range is narrower -> DequantizeLinear, if that says it."""
    offset = 128 if quantizer.signed else 0
    zero = quantizer.zero_point + offset
    axis = axis_of(quantizer.scale, rank)
    exact = bool(np.all((zero == np.rint(zero)) & (zero >= 0) & (zero <= _UINT8)))
    if not exact or axis is None or quantizer.bits > 8 or quantizer.rounding != "ROUND":
        return False
    if quantizer.zero_point.size > 1:
        return False
    size = quantizer.scale.size
    scale = emitter.constant("scale", _vector(quantizer.scale, size))
    stored = emitter.constant("zero", _vector(zero.astype(np.uint8), size))
    if quantizer.zero_point.any():
        shifted = _shifted(emitter, quantizer, source)
        unit = emitter.constant("unit", np.ones((), np.float32))
        base = emitter.constant("offset", np.uint8(offset))
        codes = emitter.node("QuantizeLinear", [shifted, unit, base])
    else:
        codes = emitter.node("QuantizeLinear", [source, scale, stored], axis=axis)
    low, high = quantizer.low + offset, quantizer.high + offset
    if (low, high) != (0, _UINT8):
        bounds = [emitter.constant("low", np.uint8(low)), emitter.constant("high", np.uint8(high))]
        codes = emitter.node("Clip", [codes, *bounds])
    emitter.node("DequantizeLinear", [codes, scale, stored], output, axis=axis)
    return True


def _vector(parameter: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    if size == 1:
        return parameter.reshape(())
    return np.broadcast_to(parameter.reshape(-1), (size,)).copy()


def _shifted(emitter: Emitter, quantizer: Quantizer, source: str) -> str:
    """x / scale + zero point."""
    scaled = emitter.node("Div", [source, emitter.constant("divisor", quantizer.scale)])
    return emitter.node("Add", [scaled, emitter.constant("shift", quantizer.zero_point)])


def _emit_arithmetic(emitter: Emitter, quantizer: Quantizer, source: str, output: str) -> None:
    """The definition, operator by operator, in float32: any width, scale shape and rounding."""
    shifted = _shifted(emitter, quantizer, source)
    bounds = [
        emitter.constant("low", np.float32(quantizer.low)),
        emitter.constant("high", np.float32(quantizer.high)),
    ]
    codes = rounded(emitter, quantizer.rounding, emitter.node("Clip", [shifted, *bounds]))
    zero = emitter.constant("zero", quantizer.zero_point)
    scale = emitter.constant("scale", quantizer.scale)
    emitter.node("Mul", [emitter.node("Sub", [codes, zero]), scale], output)


def rounded(emitter: Emitter, rounding: Rounding, source: str) -> str:
    """`source` rounded to whole numbers. Modes that mirror at 0 round the magnitude."""
    plain = {"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}
    if rounding in plain:
        return emitter.node(plain[rounding], [source])
    magnitude = emitter.node("Abs", [source])
    if rounding in ("HALF_UP", "HALF_DOWN"):
        half = emitter.constant("half", np.float32(0.5 if rounding == "HALF_UP" else -0.5))
        magnitude = emitter.node("Add", [magnitude, half])
    whole = "Ceil" if rounding in ("UP", "HALF_DOWN") else "Floor"
    magnitude = emitter.node(whole, [magnitude])
    return emitter.node("Mul", [emitter.node("Sign", [source]), magnitude])
