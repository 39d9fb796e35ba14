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
    registers = 32
    accumulators = 28
    unpacks = True  # a few operations in registers beat a scratch beyond the L1 cache

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        return codes.reshape(*codes.shape[:-2], -1)

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        from tvm.script.ir_builder import tirx as T

        return vpdpbusd(acc, T.broadcast(word, 16), load(0, 64))


def vpdpbusd(acc: Any, unsigned: Any, signed: Any) -> Any:
    """acc (int32 x 16) + dot products of 4 unsigned and 4 signed bytes: two vectors of any type."""
    from tvm.script.ir_builder import tirx as T

    given = (T.reinterpret("int8x64", vector) for vector in (unsigned, signed))  # as LLVM wants it
    return T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", acc, *given)
