"""`OverFloats`: a step whose anchor reads tensors without codes, pixel by pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.storable import lanes_for
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Floats, Step, operands_of

Kind = Literal["float", "reals"]


@dataclass(frozen=True, eq=False)
class Image:
    """Floats in a declared buffer, `[N, C, H, W]` or, as `reals`, `[N, H, W, C]`."""

    buffer: Any
    reals: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.buffer.shape[1:3] if self.reals else self.buffer.shape[2:]
        return int(height), int(width)

    def at(self, n: Any, y: Any, x: Any, c: Any) -> Any:
        return self.buffer[n, y, x, c] if self.reals else self.buffer[n, c, y, x]


class OverFloats(ABC):
    """What kernels share that read floats and reduce a few of them per element."""

    name: str
    version = 1
    kind: Kind = "float"  # how floats are read; a model's own input has no reals

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return ({},)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind=self.kind)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        sources = [self._source(name, layouts) for name in operands_of(step.anchor)]
        held = self._held(step)
        batch, height, width, channels = tensors[step.outputs[0].tensor].shape
        lanes = lanes_for(channels, isa)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(self.name)
            images = [
                Image(declare(f"source{i}", source, tensors), source.layout.kind == "reals")
                for i, source in enumerate(sources)
            ]
            epilogue.declare_reads()
            for i, array in enumerate(held):
                buffer = T.arg(f"held{i}", T.buffer(array.shape, str(array.dtype)))
                images.append(Image(buffer, reals=True))
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                results = T.alloc_buffer((stored_channels(channels),), "float32", scope="global")
                with T.serial(0, batch) as n, share.loop(height) as y, T.serial(0, width) as x:
                    self._pixel(step, tuple(images), results, (n, y, x), channels)
                    with T.serial(0, stored_channels(channels) // lanes) as block:
                        value = results[T.ramp(block * lanes, 1, lanes)]
                        epilogue.store(value, n, y, x, block * lanes)
        return Emitted(
            func=ib.get(),
            reads=(*sources, *epilogue.reads),
            constants=(*held, *epilogue.constants),
            writes=epilogue.writes,
        )

    def _held(self, step: Step) -> tuple[Floats, ...]:
        """Constants `[N, H, W, C]` that the anchor reads."""
        return ()

    def _source(self, tensor: str, layouts: Layouts) -> Buffer:
        known = any(layout.kind == self.kind for layout in layouts[tensor])
        return Buffer(tensor=tensor, layout=Layout(kind=self.kind if known else "float"))

    @abstractmethod
    def _pixel(
        self,
        step: Step,
        images: tuple[Image, ...],
        results: Any,
        at: tuple[Any, Any, Any],
        channels: int,
    ) -> None:
        """Emits the accumulators of all channels of the pixel `at` = (n, y, x) into `results`.

        `images`: what the anchor reads, see `operands_of`, and what is `_held`."""


def spread(value: Any, lanes: int) -> Any:
    """`value` in every lane."""
    from tvm.script.ir_builder import tirx as T

    return value if lanes == 1 else T.broadcast(value, lanes)
