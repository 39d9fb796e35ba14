"""A small real kernel and a small real library, for tests of what runs and times them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.layout import Layout, Layouts, buffer_dtype, buffer_shape
from mpqdeploy.targets.program import Conv, Step


def scale_function(name: str, size: int, repeat: int = 1) -> Any:
    """y = 2 * x over float32 `[size]`, `repeat` times."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as T

    with IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        x = T.arg("x", T.buffer((size,), "float32"))
        y = T.arg("y", T.buffer((size,), "float32"))
        with T.serial(0, repeat), T.serial(0, size) as i:
            T.buffer_store(y, x[i] * T.float32(2), [i])
    return builder.get().with_attr("global_symbol", name)


def scale_library(path: Path, size: int = 256) -> Path:
    """A shared library with the function `scale`."""
    from mpqdeploy.targets.lowering import compile_tir
    from mpqdeploy.targets.target import load_target
    from mpqdeploy.targets.toolchain import linker

    built = compile_tir(scale_function("scale", size), load_target("x86-64"))
    built.export_library(str(path), fcompile=linker())
    return path


class CopyKernel:
    """Copies constants into the output `work` times: real code whose time the schedule sets."""

    def __init__(self, name: str, works: Sequence[int], *, version: int = 1, bits: int = 1) -> None:
        self.name = name
        self.version = version
        self.least_bits = bits
        self.works = tuple(works)
        self.emitted: list[int] = []

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, Conv) and step.anchor.weight_grid.bits >= self.least_bits

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return [{"work": work} for work in self.works]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bytes", padding=(1, 1, 1, 1))

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        self.emitted.append(schedule["work"])
        reads = tuple(Buffer(tensor=name, layout=layouts[name][0]) for name in step.reads())
        written = tuple(output.tensor for output in step.outputs)
        writes = tuple(Buffer(tensor=name, layout=layouts[name][0]) for name in written)
        constant = np.arange(64, dtype=np.uint8)
        with IRBuilder() as builder, T.prim_func():
            T.func_name("copy")
            for index, buffer in enumerate(reads):
                shape = buffer_shape(tensors[buffer.tensor], buffer.layout)
                T.arg(f"r{index}", T.buffer(shape, buffer_dtype(buffer.layout)))
            c = T.arg("c", T.buffer((64,), "uint8"))
            shape = buffer_shape(tensors[writes[0].tensor], writes[0].layout)
            y = T.arg("y", T.buffer(shape, buffer_dtype(writes[0].layout)))
            with T.serial(0, schedule["work"]) as k, T.serial(0, shape[3]) as i:
                T.buffer_store(y, c[(i * k) % 64], [0, 0, 0, i])
        return Emitted(func=builder.get(), reads=reads, constants=(constant,), writes=writes)
