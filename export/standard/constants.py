"""Quantized constants (weights, biases): packed codes behind a DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mpqdeploy.export.quantizer import Quantizer
from mpqdeploy.export.standard.graph import Emitter, axis_of
from mpqdeploy.export.standard.storage import Storage, narrowest, pack_signs


def emit_constant(
    emitter: Emitter, quantizer: Quantizer, values: NDArray[np.float32], output: str
) -> None:
    """Store `values` as the codes that `quantizer` makes of them; `output` gets the same floats.

    Bipolar codes take one bit each. Other widths take the next of 2, 4, 8, 16, 32 bits. Where the
    parameters vary along several axes, or the zero point is no code of that type, the shift and the
    scale are written as Sub and Mul, which onnxruntime folds away when it loads the file.
    """
    codes = quantizer.quantize(values)
    if quantizer.bipolar and not quantizer.zero_point.any():
        _emit_signs(emitter, quantizer, codes, output)
        return
    storage = narrowest(quantizer.low, quantizer.high)
    if storage is None:  # unsigned 32-bit codes: as the floats that they are
        emitter.node("Identity", [emitter.constant("values", quantizer.dequantize(codes))], output)
        return
    emitter.opset = max(emitter.opset, storage.opset)
    packed = emitter.packed("codes", storage.tensor(codes))
    if not _emit_linear(emitter, quantizer, storage, packed, values.ndim, output):
        unit = emitter.constant("unit", np.ones((), np.float32))
        plain = emitter.node("DequantizeLinear", [packed, unit])
        shifted = emitter.node("Sub", [plain, emitter.constant("zero", quantizer.zero_point)])
        emitter.node("Mul", [shifted, emitter.constant("scale", quantizer.scale)], output)


def _emit_linear(
    emitter: Emitter, quantizer: Quantizer, storage: Storage, packed: str, rank: int, output: str
) -> bool:
    """DequantizeLinear with the quantizer's own scale and zero point, where it can say them."""
    scale, zero = quantizer.scale, quantizer.zero_point
    size = max(scale.size, zero.size)
    shape = scale.shape if scale.size == size else zero.shape
    axis = axis_of(np.empty(shape), rank)
    fits = bool(np.all((zero == np.rint(zero)) & (zero >= storage.low) & (zero <= storage.high)))
    if axis is None or not fits or (storage.bits == 32 and zero.any()):
        return False
    inputs = [packed, emitter.constant("scale", _per_axis(scale, size))]
    if zero.any():
        inputs.append(emitter.packed("zero", storage.tensor(_per_axis(zero, size))))
    emitter.node("DequantizeLinear", inputs, output, axis=axis)
    return True


def _per_axis(parameter: NDArray[Any], size: int) -> NDArray[Any]:
    """Shape `[]` for one value, `[size]` for one per channel."""
    if size == 1:
        return parameter.reshape(())
    return np.broadcast_to(parameter.reshape(-1), (size,)).copy()


def _emit_signs(
    emitter: Emitter, quantizer: Quantizer, codes: NDArray[np.int64], output: str
) -> None:
    """One bit per weight.

    ONNX's narrowest type is INT2, which would double the file and needs opset 25. A mask per bit
    and a Where are plain operators since opset 18; onnxruntime evaluates them when it loads. They
    end in codes 0 and 2 around a zero point of 1, not in floats: onnxruntime folds BatchNorm into
    weights that are float constants and then quantizes these anew to 8 bits per tensor, which
    changes the network; behind a DequantizeLinear it leaves them alone.
    """
    packed = emitter.constant("signs", pack_signs(codes).reshape(-1, 1))
    masks = emitter.constant("masks", (1 << np.arange(8)).astype(np.uint8).reshape(1, 8))
    masked = emitter.node("BitwiseAnd", [packed, masks])
    positive = emitter.node("Cast", [masked], to=TensorProto.BOOL)
    flat = emitter.node("Reshape", [positive, emitter.constant("flat", np.array([-1]))])
    if codes.size % 8:
        first = emitter.constant("first", np.array([0]))
        last = emitter.constant("last", np.array([codes.size]))
        flat = emitter.node("Slice", [flat, first, last])
    shape = emitter.constant("shape", np.array(codes.shape, np.int64))
    shaped = emitter.node("Reshape", [flat, shape])
    axis = axis_of(quantizer.scale, codes.ndim)
    if axis is None:
        plus = emitter.constant("plus", quantizer.scale)
        minus = emitter.constant("minus", -quantizer.scale)
        emitter.node("Where", [shaped, plus, minus], output)
        return
    plus, minus = emitter.constant("plus", np.uint8(2)), emitter.constant("minus", np.uint8(0))
    stored = emitter.node("Where", [shaped, plus, minus])
    size = quantizer.scale.size
    scale = emitter.constant("scale", _per_axis(quantizer.scale, size))
    zero = emitter.constant("zero", _per_axis(np.ones((), np.uint8), size))
    emitter.node("DequantizeLinear", [stored, scale, zero], output, axis=axis)
