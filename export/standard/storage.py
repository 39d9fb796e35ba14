"""How integer codes are stored in a standard ONNX file: the narrowest type that ONNX has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_INTEGERS: dict[tuple[int, bool], Any] = {
    (2, False): ml_dtypes.uint2,
    (2, True): ml_dtypes.int2,
    (4, False): ml_dtypes.uint4,
    (4, True): ml_dtypes.int4,
    (8, False): np.uint8,
    (8, True): np.int8,
    (16, False): np.uint16,
    (16, True): np.int16,
    (32, True): np.int32,
}
_OPSETS = {2: 25, 4: 21, 8: 21, 16: 21, 32: 21}


@dataclass(frozen=True, kw_only=True)
class Storage:
    """An ONNX integer type; `opset` is the first whose DequantizeLinear reads it."""

    bits: int
    signed: bool

    @property
    def opset(self) -> int:
        return _OPSETS[self.bits]

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1

    def tensor(self, codes: NDArray[Any]) -> onnx.TensorProto:
        """A tensor of `codes`, two or four of them to the byte where they are narrow."""
        dtype = _INTEGERS[self.bits, self.signed]
        return numpy_helper.from_array(np.asarray(codes).astype(dtype))


def narrowest(low: int, high: int) -> Storage | None:
    """The narrowest storage for codes from `low` to `high`; None where 32 bits are too few."""
    signed = low < 0
    for bits, is_signed in sorted(_INTEGERS, key=lambda key: key[0]):
        storage = Storage(bits=bits, signed=is_signed)
        if is_signed == (signed or bits == 32) and storage.low <= low and high <= storage.high:
            return storage
    return None


def pack_signs(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """One bit per code, 1 for a positive one, the first code in the lowest bit; shape `[bytes]`."""
    return np.packbits(np.asarray(codes).reshape(-1) > 0, bitorder="little")
