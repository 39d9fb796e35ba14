"""Plain vectors of 4 lanes, for any CPU: one activation at a time against 4 output channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_inner import Load


class Portable:
    """A product fits 16 bits (255 * -128 does), its sum is widened to 32."""

    name = "dot_portable"
    isa = Isa.PORTABLE
    registers = 16
    accumulators = 8
    unpacks = False  # its vectors are too short

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        return np.swapaxes(codes, -1, -2).reshape(*codes.shape[:-2], -1)

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        from tvm.script.ir_builder import tirx as T

        for channel in range(4):
            byte = T.bitwise_and(T.shift_right(word, 8 * channel), 255)
            product = T.broadcast(T.cast(byte, "int16"), 4) * T.cast(
                load(4 * channel, 4), "int16x4"
            )
            acc = acc + T.cast(product, "int32x4")
        return acc
