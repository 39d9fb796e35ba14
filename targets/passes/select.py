"""Pass 3, select: the kernel and the schedule of every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Geometry, ModelError, Precision
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Kernel, Schedule
from mpqdeploy.targets.kernels.shares import shared_schedules
from mpqdeploy.targets.program import Conv, Program, Step

# What was measured of a layer, (kernel name, schedule), the fastest first.
Measured = Callable[[Geometry, Precision], Sequence[tuple[str, Schedule]]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a step runs on; `measured` tells a tuned choice from the default one."""

    kernel: Kernel
    schedule: Schedule
    measured: bool


def select(
    program: Program,
    isa: Isa,
    kernels: Sequence[Kernel],
    measured: Measured | None = None,
    *,
    threads: int = 1,
) -> Mapping[str, Choice]:
    """Choose for every step, by name.

    The fastest that was measured and that the step offers; else the first kernel in `kernels` that
    matches, with its default schedule. Raises `ModelError` for a step that no kernel computes.
    """
    return {
        step.name: _choose(program, step, isa, kernels, measured, threads) for step in program.steps
    }


def _choose(
    program: Program,
    step: Step,
    isa: Isa,
    kernels: Sequence[Kernel],
    measured: Measured | None,
    threads: int,
) -> Choice:
    matching = [kernel for kernel in kernels if kernel.matches(step, program.tensors, isa)]
    if not matching:
        raise ModelError(
            f"no kernel of the {isa} level computes {step.name} ({', '.join(step.sources)}).",
            hint="Compile for another target, or change this layer's precision.",
        )
    layer = layer_of(program, step)
    ranked = measured(*layer) if measured and layer else ()
    offered = {
        kernel.name: shared_schedules(kernel, step, program.tensors, isa, threads)
        for kernel in matching
    }
    by_name = {kernel.name: kernel for kernel in matching}
    for name, schedule in ranked:
        if name in by_name and schedule in offered[name]:
            return Choice(kernel=by_name[name], schedule=schedule, measured=True)
    default = matching[0]
    return Choice(kernel=default, schedule=offered[default.name][0], measured=False)


def layer_of(program: Program, step: Step) -> tuple[Geometry, Precision] | None:
    """Geometry and precision of a convolution step, as the profile keys them; None for others."""
    if not isinstance(step.anchor, Conv):
        return None
    conv, source = step.anchor, program.tensors[step.anchor.input]
    grid = source.grid
    if grid is None:
        return None
    out_channels, *kernel, _ = conv.weights.shape
    covers = tuple(kernel) == source.shape[1:3] == (1, 1)
    geometry = Geometry(
        op="linear" if covers else "conv",
        in_channels=source.shape[3],
        out_channels=out_channels,
        in_size=(source.shape[1], source.shape[2]),
        kernel=(kernel[0], kernel[1]),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        act_signed=grid.signed,
    )
    return geometry, Precision(weight_bits=conv.weight_grid.bits, act_bits=grid.bits)
