"""AVX2: bytes widened to 16 bits, then pmaddwd, which adds pairs of products into int32.

pmaddubsw would take bytes as they are, but it saturates at 16 bits: 255 * -128 * 2 does not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_inner import Load


class Avx2:
    """A word of 4 activations is split by a mask and a shift into channels (0, 2) and (1, 3)."""

    name = "dot_avx2"
    isa = Isa.AVX2
    registers = 16
    accumulators = 8  # widened weights and activations need the others
    unpacks = False  # widening dominates: registers gain 5 % at best

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        pairs = np.stack([codes[..., 0::2], codes[..., 1::2]], axis=-3)
        return pairs.reshape(*codes.shape[:-2], -1)

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        from tvm.script.ir_builder import tirx as T

        both = T.reinterpret("uint16x16", T.broadcast(word, 8))
        even = T.bitwise_and(both, T.broadcast(T.uint16(0xFF), 16))
        odd = T.shift_right(both, T.broadcast(T.uint16(8), 16))
        for half, pair in enumerate((even, odd)):
            acc = acc + T.call_llvm_pure_intrin(
                "int32x8",
                "llvm.x86.avx2.pmadd.wd",
                T.reinterpret("int16x16", pair),
                T.cast(load(16 * half, 16), "int16x16"),
            )
        return acc
