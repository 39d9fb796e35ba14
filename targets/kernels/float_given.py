"""`GivenKernel`: the epilogue of a constant, such as the places of tokens, in float32."""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.over_floats import Image, OverFloats
from mpqdeploy.targets.kernels.storable import storable
from mpqdeploy.targets.program import Floats, Given, Step


class GivenKernel(OverFloats):
    """What is added to it, or made of it, is computed where it is read: it is not stored."""

    name = "given"

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, Given) and storable(step, tensors)

    def _held(self, step: Step) -> tuple[Floats, ...]:
        if not isinstance(step.anchor, Given):
            raise ValueError(f"{step.name} has no constant")
        return (step.anchor.values,)

    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        (image,) = images
        with T.serial(0, channels) as c:
            T.buffer_store(results, image.at(*at, c), [c])
