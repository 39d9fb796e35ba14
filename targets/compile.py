"""Compile a QONNX file to a shared library: the five passes of `targets/passes`, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpqdeploy.core.files import replacing
from mpqdeploy.targets.lowering import lowering
from mpqdeploy.targets.passes.chain import privately
from mpqdeploy.targets.passes.emit import Module, emit
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.layout import plan_layouts
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.pooling import take_pools
from mpqdeploy.targets.passes.select import Choice, Measured, layer_of, select
from mpqdeploy.targets.program import Conv, FloatConv, Program, Step
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker

FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One kernel of the library: what it computes, what it runs on, and which nodes of it are
    computed in float32 because integers could not, each with the reason."""

    name: str
    sources: tuple[str, ...]
    kernel: str
    schedule: Mapping[str, int]
    measured: bool
    precision: str
    weights: int
    constant_bytes: int
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompileReport:
    """What was compiled, kernel by kernel, and how long each pass took."""

    target: str
    isa: str
    threads: int
    steps: tuple[StepReport, ...]
    weight_bits: int
    constant_bytes: int
    library_bytes: int
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Compiled:
    """A library on disk, the program it computes, and the report."""

    library: Path
    program: Program
    report: CompileReport


def compile_qonnx(
    source: Path,
    target: Target,
    library: Path,
    *,
    measured: Measured | None = None,
    batch: int = 1,
    before_select: Callable[[Program], object] | None = None,
) -> Compiled:
    """Compile the QONNX file `source` to the shared library `library`.

    `batch` is the size of a batch that the file leaves open.
    `measured` looks a layer's fastest measured kernel up (see `targets.profile`); without it every
    layer takes its kernel's default schedule. `before_select` is called with the program: to tune
    it, for instance (`targets.tune`), so that `measured` finds what that stored. Raises
    `ModelError` for a file or a node that cannot be compiled, `TargetError` where no linker is
    found. Nothing is written unless all of it worked.
    """
    from mpqdeploy.targets.kernels import kernels_for

    clock = _Clock()
    model = normalize(source, batch=batch)
    clock.lap("normalize")
    program = integerize(model)
    clock.lap("integerize")
    if before_select is not None:
        before_select(program)
        clock.lap("tune")
    kernels = kernels_for(target.features)
    choices = select(program, target.isa, kernels, measured, threads=target.threads)
    program, choices = take_pools(program, choices, target.isa)
    clock.lap("select")
    layouts = plan_layouts(program, {name: choice.kernel for name, choice in choices.items()})
    clock.lap("lay out")
    module = emit(program, choices, layouts, target.isa, threads=target.threads)
    clock.lap("emit")
    _build(module, target, library)
    clock.lap("build")
    report = CompileReport(
        target=target.name,
        isa=target.isa.value,
        threads=target.threads,
        steps=tuple(_report(program, step, choices[step.name], module) for step in program.steps),
        weight_bits=_weight_bits(program),
        constant_bytes=module.constant_bytes,
        library_bytes=library.stat().st_size,
        seconds=clock.laps,
    )
    return Compiled(library=library, program=program, report=report)


def _build(module: Module, target: Target, library: Path) -> None:
    from tvm import relax

    with lowering():
        executable = relax.build(
            module.relax, target.tvm_target(), exec_mode="compiled", relax_pipeline=privately()
        )
    with replacing(library) as temporary:
        # -s: debug information would be as large as the code and the weights together.
        executable.export_library(str(temporary), fcompile=linker(), options=["-s"])


def _report(program: Program, step: Step, choice: Choice, module: Module) -> StepReport:
    layer = layer_of(program, step)
    weights = step.anchor.weights.size if isinstance(step.anchor, Conv | FloatConv) else 0
    return StepReport(
        name=step.name,
        sources=step.sources,
        kernel=choice.kernel.name,
        schedule=dict(choice.schedule),
        measured=choice.measured,
        precision=str(layer[1]) if layer else "",
        weights=int(weights),
        constant_bytes=sum(array.nbytes for array in module.emitted[step.name].constants),
        fallback=step.fallback,
    )


def _weight_bits(program: Program) -> int:
    """Of all weights at their own width; those of a layer that runs several times count once."""
    distinct: dict[tuple[Any, ...], int] = {}
    for step in program.steps:
        if isinstance(step.anchor, Conv | FloatConv):
            weights = step.anchor.weights
            bits = step.anchor.weight_grid.bits if isinstance(step.anchor, Conv) else FLOAT_BITS
            distinct[weights.shape, bits, weights.tobytes()] = int(weights.size) * bits
    return sum(distinct.values())


class _Clock:
    """Seconds per pass."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 4)
        self._last = now
