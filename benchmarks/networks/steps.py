"""Where a compiled network's time goes: its kernels, timed one by one within a running network.

Every function is called on the buffers that the one before it wrote, so it finds in the caches what
it finds there in the whole network. Each call pays Python's call on top (`overhead_us`, taken off).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.targets.devices import pinned
from mpqdeploy.targets.kernels import kernels_for
from mpqdeploy.targets.kernels.base import Buffer
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.passes.emit import Module, emit
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.layout import plan_layouts
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.pooling import take_pools
from mpqdeploy.targets.passes.select import Choice, Measured, layer_of, select
from mpqdeploy.targets.program import Program, Step
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker


@dataclass(kw_only=True)
class StepTime:
    """One kernel of the network: what it is, and its samples in microseconds."""

    name: str
    layer: str
    precision: str
    kernel: str
    schedule: dict[str, int]
    macs: int
    constant_bytes: int
    samples_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return float(np.median(self.samples_us))

    @property
    def rate(self) -> float:
        """GMAC/s."""
        return self.macs / self.median_us / 1e3

    def to_json(self) -> dict[str, Any]:
        summary = {"median_us": self.median_us, "least_us": min(self.samples_us)}
        return {**asdict(self), **summary, "gmacs": self.rate}


def time_steps(
    source: Path, target: Target, measured: Measured | None, *, rounds: int = 60
) -> tuple[StepTime, ...]:
    """Compile `source` kernel by kernel, run the chain `rounds` times, and time every call."""
    program = integerize(normalize(source))
    kernels = kernels_for(target.features)
    choices = select(program, target.isa, kernels, measured, threads=target.threads)
    program, choices = take_pools(program, choices, target.isa)
    layouts = plan_layouts(program, {name: choice.kernel for name, choice in choices.items()})
    module = emit(program, choices, layouts, target.isa)
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
        calls = _calls(program, module, target, Path(folder) / "steps.so")
        steps = tuple(
            _described(program, step, choices[step.name], module)
            for step in program.steps
            if step.name in calls
        )
        _sample(steps, [calls[step.name] for step in steps], target.threads, rounds)
    return steps


def _sample(
    steps: Sequence[StepTime], calls: Sequence[Callable[[], object]], threads: int, rounds: int
) -> None:
    clock = time.perf_counter_ns
    overhead = _overhead_us()
    with pinned(threads):
        for turn in range(rounds + 2):
            for step, call in zip(steps, calls, strict=True):
                start = clock()
                call()
                took = (clock() - start) / 1e3 - overhead
                if turn >= 2:
                    step.samples_us.append(max(took, 0.0))


def _overhead_us() -> float:
    """What a call of a packed function with a few arguments costs from here."""
    import tvm

    nothing = tvm.get_global_func("ffi.Array")
    samples = []
    for _ in range(200):
        start = time.perf_counter_ns()
        nothing()
        samples.append((time.perf_counter_ns() - start) / 1e3)
    return float(np.median(samples))


def _calls(
    program: Program, module: Module, target: Target, library: Path
) -> dict[str, Callable[[], object]]:
    """A call without arguments for every step that writes something, chained by their buffers."""
    import tvm

    functions = {
        name: emitted.func.with_attr("global_symbol", f"step_{index}")
        for index, (name, emitted) in enumerate(module.emitted.items())
        if emitted.writes
    }
    unit = tvm.IRModule({str(f.attrs["global_symbol"]): f for f in functions.values()})
    compile_tir(unit, target).export_library(str(library), fcompile=linker())
    loaded = tvm.runtime.load_module(str(library))
    buffers: dict[Buffer, Any] = {}

    def tensor(buffer: Buffer) -> Any:
        if buffer not in buffers:
            shape = buffer_shape(program.tensors[buffer.tensor], buffer.layout)
            rng = np.random.default_rng(0)
            array = rng.standard_normal(shape).astype(buffer_dtype(buffer.layout))
            buffers[buffer] = tvm.runtime.tensor(array)
        return buffers[buffer]

    def bound(name: str) -> Callable[[], object]:
        emitted = module.emitted[name]
        function = loaded[str(functions[name].attrs["global_symbol"])]
        arguments = [
            *(tensor(read) for read in emitted.reads),
            *(tvm.runtime.tensor(array) for array in emitted.constants),
            *(tensor(write) for write in emitted.writes),
        ]
        return lambda: function(*arguments)

    return {name: bound(name) for name in functions}


def _described(program: Program, step: Step, choice: Choice, module: Module) -> StepTime:
    layer = layer_of(program, step)
    text = "" if layer is None else _layer(layer[0])
    if layer is None:
        tensor = program.tensors[step.outputs[0].tensor]
        anchor = type(step.anchor).__name__.lower() if step.anchor else "elementwise"
        text = f"{anchor} -> {'x'.join(map(str, tensor.shape[1:]))}"
    return StepTime(
        name=step.name,
        layer=text,
        precision=str(layer[1]) if layer else "",
        kernel=choice.kernel.name,
        schedule=dict(choice.schedule),
        macs=layer[0].macs if layer else 0,
        constant_bytes=sum(array.nbytes for array in module.emitted[step.name].constants),
    )


def _layer(g: Any) -> str:
    stride = f"/{g.stride[0]}" if g.stride[0] > 1 else ""
    kind = "dw " if g.depthwise else ""
    size = "x".join(map(str, g.in_size))
    return f"{kind}{g.kernel[0]}x{g.kernel[1]}{stride} {g.in_channels}>{g.out_channels} on {size}"
