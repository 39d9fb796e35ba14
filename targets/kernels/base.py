"""The seam of the kernels: what a kernel must offer, and what it hands to the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Step, Tensor

Schedule = Mapping[str, int]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """One argument of an emitted function: a tensor in one of its layouts."""

    tensor: str
    layout: Layout


@dataclass(frozen=True, kw_only=True, eq=False)
class Emitted:
    """A TIR function and its arguments, in order: `reads`, then `constants`, then `writes`."""

    func: Any  # tvm.tirx.PrimFunc; tvm is imported late
    reads: tuple[Buffer, ...]
    constants: tuple[NDArray[Any], ...]
    writes: tuple[Buffer, ...]


class Kernel(Protocol):
    """One way to compute a step on one instruction-set level.

    `name` and `version` identify stored measurements: raise `version` with every change that can
    alter the kernel's time or its packed weights.
    """

    name: str
    version: int

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        """Whether this kernel computes `step` exactly on `isa` (int32 cannot overflow, ...)."""

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        """The declared search space, never empty; the first one is the untuned default."""

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        """The layout and least padding the anchor's input must have; None without an anchor."""

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        """Generate the function.

        `layouts` lists, for every tensor the step reads or writes, the layouts in which it exists
        (padding may exceed `operand`'s): every listed layout of a written tensor is written,
        borders included. A `Load` reads the bytes layout, or the float one.
        """


@runtime_checkable
class TakesPools(Protocol):
    """A kernel that may take maxima of a convolution's sums before its epilogue."""

    def takes_pool(self, step: Step, tensors: Tensors, isa: Isa, schedule: Schedule) -> bool:
        """Whether `emit` computes `step`, whose convolution has a `pool`, with this schedule of
        the step without it."""
