"""How TVM lowers kernels to machine code: its own passes, less two that only take time.

`CompactBufferAllocation` finds out which part of a buffer is used, access by access, to shrink it;
buffers of explicit TIR are as large as they have to be. 6.3 of the 7.3 s of an unrolled kernel.
`RemoveNoOp` drops statements without effect, twice; so does LLVM. A third of the time of kernels
of many statements. The machine code is the same byte for byte without them [o].
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.target import Target

LEFT_OUT = ("s_tir.CompactBufferAllocation", "tirx.RemoveNoOp")


def lowering() -> Any:
    """The `PassContext` to build kernels in."""
    from tvm.ir.transform import PassContext

    return PassContext(disabled_pass=list(LEFT_OUT))


def compile_tir(functions: Any, target: Target) -> Any:
    """TIR functions (an `IRModule`, or one `PrimFunc`) as an executable of `target`."""
    import tvm

    with lowering():
        return tvm.compile(functions, target=target.tvm_target())
