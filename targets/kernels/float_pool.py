"""`FloatPooling`: pools of tensors without codes. `SoftmaxKernel`: over the channels of a pixel.

Both are fallbacks: float32, as the graph says.
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.over_floats import Image, OverFloats
from mpqdeploy.targets.kernels.storable import storable
from mpqdeploy.targets.program import Pool, Softmax, Step


class FloatPooling(OverFloats):
    """Any window, stride and padding."""

    name = "float_pool"

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        anchor = step.anchor
        plain = isinstance(anchor, Pool) and tensors[anchor.input].grid is None
        return plain and storable(step, tensors)

    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        pool = step.anchor
        if not isinstance(pool, Pool):
            raise ValueError(f"{step.name} is no pooling")
        (image,) = images
        height, width = image.size
        n, y, x = at
        top, left = y * pool.stride[0] - pool.padding[0], x * pool.stride[1] - pool.padding[1]
        maximum = pool.kind == "max"
        # The maximum of no pixel is lower than any; the sum of no pixel is 0.
        neutral = T.float32(-3.4028234663852886e38 if maximum else 0.0)
        with T.serial(0, channels) as c:
            T.buffer_store(results, neutral, [c])
            with T.serial(0, pool.kernel[0]) as row, T.serial(0, pool.kernel[1]) as column:
                at_y, at_x = top + row, left + column
                value = image.at(n, at_y, at_x, c)
                if any(pool.padding):
                    inside = T.And(T.And(at_y >= 0, at_y < height), T.And(at_x >= 0, at_x < width))
                    value = T.if_then_else(inside, value, neutral)
                best = T.max(results[c], value) if maximum else results[c] + value
                T.buffer_store(results, best, [c])
            if pool.kind == "mean":
                rows = taps_inside(top, pool.kernel[0], height)
                columns = taps_inside(left, pool.kernel[1], width)
                count = T.cast(rows * columns, "float32")
                T.buffer_store(results, results[c] / count, [c])


class SoftmaxKernel(OverFloats):
    """Stable: the maximum is subtracted first."""

    name = "softmax"

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, Softmax) and storable(step, tensors)

    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        (image,), (n, y, x) = images, at
        best = T.alloc_buffer((1,), "float32", scope="global")
        total = T.alloc_buffer((1,), "float32", scope="global")
        T.buffer_store(best, image.at(n, y, x, 0), [0])
        T.buffer_store(total, T.float32(0), [0])
        with T.serial(0, channels) as c:
            T.buffer_store(best, T.max(best[0], image.at(n, y, x, c)), [0])
        with T.serial(0, channels) as c:
            T.buffer_store(results, T.exp(image.at(n, y, x, c) - best[0]), [c])
            T.buffer_store(total, total[0] + results[c], [0])
        with T.serial(0, channels) as c:
            T.buffer_store(results, results[c] / total[0], [c])


def taps_inside(first: Any, taps: int, extent: int) -> Any:
    """How many of `taps` positions from `first` on lie in [0, extent)."""
    from tvm.script.ir_builder import tirx as T

    return T.min(first + taps, extent) - T.max(first, 0)
