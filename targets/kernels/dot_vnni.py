"""AVX-512 VNNI: vpdpbusd adds 16 dot products of 4 unsigned and 4 signed bytes, exactly."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_inner import Load


class Vnni:
    """vpdpbusd sums into int32 without saturation (its sibling vpdpbusds saturates)."""

    name = "dot_vnni"
    isa = Isa.VNNI
    registers = 28  # of 32: the others hold weights and the broadcast activations
    unpacks = True  # a few operations in registers beat a scratch beyond the L1 cache

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        return codes.reshape(*codes.shape[:-2], -1)

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        from tvm.script.ir_builder import tirx as T

        activations = T.reinterpret("int8x64", T.broadcast(word, 16))
        return T.call_llvm_pure_intrin(
            "int32x16", "llvm.x86.avx512.vpdpbusd.512", acc, activations, load(0, 64)
        )
