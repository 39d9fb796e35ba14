"""The limit: multiply-accumulates a second of vpdpbusd on registers alone.

Not a number from a data sheet: it is timed in turn with the networks, at the clock that the machine
has in the same minutes. A kernel that also loads its operands and stores its results can only be
slower.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker

CHAINS = 12  # independent accumulators: two ports times a latency of 5 cycles, and a few to spare
STEPS = 8192
MACS = CHAINS * STEPS * 64


def peak_run(target: Target) -> Callable[[], object] | None:
    """A call that makes `MACS` multiply-accumulates; None where the target lacks vpdpbusd."""
    import numpy as np
    import tvm

    if target.isa is not Isa.VNNI:
        return None
    compiled = compile_tir(tvm.IRModule({"peak": _function()}), target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.so"
        compiled.export_library(str(path), fcompile=linker())
        function = tvm.runtime.load_module(str(path))["peak"]
    source = tvm.runtime.tensor(np.ones((2, 64), np.int8))
    result = tvm.runtime.tensor(np.zeros((CHAINS, 16), np.int32))
    return lambda: function(source, result)


def _function() -> Any:
    """`CHAINS` sums of products of two vectors that stay in registers."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as T

    index = T.ramp(0, 1, 16)
    with IRBuilder() as builder, T.prim_func():
        T.func_name("peak")
        T.func_attr({"global_symbol": "peak"})
        source = T.arg("source", T.buffer((2, 64), "int8"))
        result = T.arg("result", T.buffer((CHAINS, 16), "int32"))
        sums = [T.alloc_buffer((16,), "int32", scope="global") for _ in range(CHAINS)]
        for buffer in sums:
            T.buffer_store(buffer, T.broadcast(T.int32(0), 16), [index])
        with T.serial(0, STEPS):
            for buffer in sums:
                total = T.call_llvm_pure_intrin(
                    "int32x16",
                    "llvm.x86.avx512.vpdpbusd.512",
                    buffer[index],
                    source[0, T.ramp(0, 1, 64)],
                    source[1, T.ramp(0, 1, 64)],
                )
                T.buffer_store(buffer, total, [index])
        for number, buffer in enumerate(sums):
            T.buffer_store(result, buffer[index], [number, index])
    return builder.get()
