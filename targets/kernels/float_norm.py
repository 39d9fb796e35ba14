"""`NormalizationKernel`: what LayerNormalization does to the channels of a pixel, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.over_floats import Image, OverFloats, spread
from mpqdeploy.targets.kernels.storable import storable
from mpqdeploy.targets.program import Normalization, Step

LANES = 16  # of a vector; LLVM splits it where registers are shorter


class NormalizationKernel(OverFloats):
    """The mean first, then the mean square of the deviations from it: the difference of two large
    numbers would have few digits."""

    name = "normalization"
    kind = "reals"

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, Normalization) and storable(step, tensors)

    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        if not isinstance(step.anchor, Normalization):
            raise ValueError(f"{step.name} is no normalization")
        (image,) = images
        mean, factor = (T.alloc_buffer((1,), "float32", scope="global") for _ in range(2))
        count = T.float32(channels)

        def read(c: Any, lanes: int) -> None:
            T.buffer_store(results, image.at(*at, c), [c])

        def deviate(c: Any, lanes: int) -> None:
            T.buffer_store(results, results[c] - spread(mean[0], lanes), [c])

        def scale(c: Any, lanes: int) -> None:
            T.buffer_store(results, results[c] * spread(factor[0], lanes), [c])

        _each(channels, read, whole=image.reals)
        T.buffer_store(mean, _sum(results, channels, lambda value: value) / count, [0])
        _each(channels, deviate)
        variance = _sum(results, channels, lambda value: value * value) / count
        root = T.sqrt(variance + T.float32(step.anchor.epsilon))
        T.buffer_store(factor, T.float32(1) / root, [0])
        _each(channels, scale)


def _each(channels: int, emit: Callable[[Any, int], None], *, whole: bool = True) -> None:
    """`emit` for all channels, given a vector's or one channel's index and how many these are;
    vectors only where channels lie `whole`, next to each other."""
    from tvm.script.ir_builder import tirx as T

    vectors = channels // LANES if whole else 0
    if vectors:
        with T.serial(0, vectors) as i:
            emit(T.ramp(i * LANES, 1, LANES), LANES)
    if channels > vectors * LANES:
        with T.serial(vectors * LANES, channels) as c:
            emit(c, 1)


def _sum(values: Any, channels: int, of: Callable[[Any], Any]) -> Any:
    """The sum of what `of` makes of each, as a scalar."""
    from tvm.script.ir_builder import tirx as T

    sums = T.alloc_buffer((LANES,), "float32", scope="global")
    total = T.alloc_buffer((1,), "float32", scope="global")
    index = T.ramp(0, 1, LANES)
    T.buffer_store(sums, spread(T.float32(0), LANES), [index])
    T.buffer_store(total, T.float32(0), [0])

    def add(c: Any, lanes: int) -> None:
        into, place = (sums, index) if lanes == LANES else (total, 0)
        T.buffer_store(into, into[place] + of(values[c]), [place])

    _each(channels, add)
    with T.serial(0, LANES) as lane:
        T.buffer_store(total, total[0] + sums[lane], [0])
    return total[0]
