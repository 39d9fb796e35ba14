"""Compile candidate kernels into shared libraries, on all cores at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mpqdeploy.targets.candidates import Candidate, Layer
from mpqdeploy.targets.kernels.base import Emitted
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """Candidates of one layer in one library, by the names of their functions."""

    layer: Layer
    library: Path
    functions: dict[str, tuple[Candidate, Emitted]]


def build_all(
    work: Sequence[tuple[Layer, Sequence[Candidate]]],
    target: Target,
    folder: Path,
    say: Callable[[str], None],
) -> Sequence[Built]:
    """A library in `folder` for each layer with candidates to compile.

    Returns when no compiler runs any more: it would disturb the timing. `say` is told which layer
    is awaited.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(cores)
    try:
        futures = {
            layer: pool.submit(build, layer, choices, target, folder / f"{index}.so")
            for index, (layer, choices) in enumerate(work)
            if choices
        }
        built = []
        for layer, future in futures.items():
            say(f"compiling {layer}")
            built.append(future.result())
        return built
    finally:
        pool.shutdown(cancel_futures=True)


def build(layer: Layer, choices: Sequence[Candidate], target: Target, library: Path) -> Built:
    """Compile candidates of one layer into the shared library `library`."""
    import tvm

    functions: dict[str, tuple[Candidate, Emitted]] = {}
    for index, choice in enumerate(choices):
        work = choice.workload
        layouts = work.layouts(choice.kernel)
        emitted = choice.kernel.emit(work.step, work.tensors, layouts, target.isa, choice.schedule)
        functions[f"candidate_{index}"] = (choice, emitted)
    module = tvm.IRModule(
        {
            name: emitted.func.with_attr("global_symbol", name)
            for name, (_, emitted) in functions.items()
        }
    )
    built = compile_tir(module, target)
    built.export_library(str(library), fcompile=linker())
    return Built(layer=layer, library=library, functions=functions)
