"""Compile and time candidate kernels: what `profile` does for a layer that is not stored yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import Protocol
from mpqdeploy.targets.candidates import Candidate
from mpqdeploy.targets.devices import Device
from mpqdeploy.targets.kernels.base import Emitted
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.measure import device_timer, measure, sketch
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.synthesize import random_buffer
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker

SKETCH_SAMPLES = 3
HOPELESS = 1.5  # a candidate this many times slower than the best after a sketch is dropped

Functions = Mapping[str, tuple[Candidate, Emitted]]


def build(choices: Sequence[Candidate], target: Target, library: Path) -> Functions:
    """One shared library with a function per candidate; returns them by name."""
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
    built = tvm.compile(module, target=target.tvm_target())
    built.export_library(str(library), fcompile=linker())
    return functions


def race(
    functions: Functions,
    library: Path,
    device: Device,
    store: RecordStore,
    protocol: Protocol,
    *,
    limit_us: float = float("inf"),
) -> None:
    """Time the candidates of one layer and store a record of each.

    A short sketch of each comes first; then they are measured in full, likely winners first, but
    for those that are `HOPELESS`: their sketch is stored as pruned. `limit_us` is the best median
    known before.
    """
    module = device.load(library)
    timers = {
        name: device_timer(device, module, name, _arguments(choice, emitted, device))
        for name, (choice, emitted) in functions.items()
    }
    sketches = {
        name: sketch(timer, protocol, device.fingerprint, SKETCH_SAMPLES)
        for name, timer in timers.items()
    }
    for name in sorted(timers, key=lambda name: sketches[name].median_us):
        record = sketches[name]
        pruned = record.median_us > HOPELESS * limit_us
        if not pruned:
            record = measure(timers[name], protocol, device.fingerprint)
            limit_us = min(limit_us, record.median_us)
        store.put(functions[name][0].key, record, pruned=pruned)


def _arguments(choice: Candidate, emitted: Emitted, device: Device) -> list[Any]:
    """Device tensors in the order of the function's parameters."""
    tensors = choice.workload.tensors
    reads = [random_buffer(tensors[read.tensor], read.layout) for read in emitted.reads]
    writes = [
        np.zeros(buffer_shape(tensors[write.tensor], write.layout), buffer_dtype(write.layout))
        for write in emitted.writes
    ]
    return [device.tensor(array) for array in (*reads, *emitted.constants, *writes)]
