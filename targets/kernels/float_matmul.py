"""`MatMulKernel`: products of two computed matrices, as attention has them, in float32."""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.over_floats import Image, OverFloats, spread
from mpqdeploy.targets.kernels.storable import storable
from mpqdeploy.targets.program import MatMul, Step

VECTORS = (64, 16, 1)  # columns at once: as many as are left, of sums that stay in registers


class MatMulKernel(OverFloats):
    """A row of sums at a time: every element of the left row times a row of the right matrix."""

    name = "matmul"
    kind = "reals"

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, MatMul) and storable(step, tensors)

    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        if not isinstance(step.anchor, MatMul):
            raise ValueError(f"{step.name} is no product of matrices")
        (left, right), (n, _, row), count = images, at, step.anchor.count
        rows, inner = left.size[1] // count, right.size[1] // count  # of a matrix
        first = T.floordiv(row, rows) * inner
        done = 0
        for lanes in VECTORS if right.reals else VECTORS[-1:]:
            blocks = (channels - done) // lanes
            if not blocks:
                continue
            sums = T.alloc_buffer((lanes,), "float32", scope="global")
            index = T.ramp(0, 1, lanes) if lanes > 1 else 0
            with T.serial(0, blocks) as block:
                start = done + block * lanes
                columns = T.ramp(start, 1, lanes) if lanes > 1 else start
                T.buffer_store(sums, spread(T.float32(0), lanes), [index])
                with T.serial(0, inner) as k:
                    factor = spread(left.at(n, 0, row, k), lanes)
                    total = sums[index] + factor * right.at(n, 0, first + k, columns)
                    T.buffer_store(sums, total, [index])
                T.buffer_store(results, sums[index], [columns])
            done += blocks * lanes
