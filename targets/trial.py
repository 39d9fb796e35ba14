"""Compile and time candidate kernels: what `profile` does for a layer that is not stored yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import Protocol
from mpqdeploy.targets.candidates import Candidate
from mpqdeploy.targets.devices import Device
from mpqdeploy.targets.kernels.base import Emitted
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.measure import device_timer, measure_in_turn
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.synthesize import random_buffer
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.toolchain import linker

SKETCH = 5  # samples of the first, short look at a candidate
HOPELESS = 1.5  # a candidate this many times slower than the best one of its layer is dropped


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """Candidates of one layer, compiled into one library: the functions by name.

    `limit_us` is the least median of the layer's candidates that were measured before, infinite
    where none was.
    """

    library: Path
    functions: dict[str, tuple[Candidate, Emitted]]
    limit_us: float


def build(choices: Sequence[Candidate], target: Target, library: Path, limit_us: float) -> Built:
    """Compile the candidates of one layer into the shared library `library`."""
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
    return Built(library=library, functions=functions, limit_us=limit_us)


def race(layers: Sequence[Built], device: Device, store: RecordStore, protocol: Protocol) -> None:
    """Time the candidates of layers that are to be compared, and store a record of each.

    A short sketch of each comes first: those that are `HOPELESS` in their layer go no further, and
    the sketch is stored as pruned. The others are measured in full, all in turn.
    """
    timers, keys, layer_of = {}, {}, {}
    for index, layer in enumerate(layers):
        module = device.load(layer.library)
        for function, (choice, emitted) in layer.functions.items():
            name = f"{index}.{function}"
            arguments = _arguments(choice, emitted, device)
            timers[name] = device_timer(device, module, function, arguments)
            keys[name], layer_of[name] = choice.key, index
    short = replace(protocol, samples=min(SKETCH, protocol.samples))
    sketches = measure_in_turn(timers, short, device.fingerprint, rounds=1)
    limits = [layer.limit_us for layer in layers]
    for name, index in layer_of.items():  # the least sample is the one least disturbed
        limits[index] = min(limits[index], min(sketches[name].samples_us))
    hopeless = {
        name
        for name, index in layer_of.items()
        if min(sketches[name].samples_us) > HOPELESS * limits[index]
    }
    for name in hopeless:
        store.put(keys[name], sketches[name], pruned=True)
    rest = {name: timer for name, timer in timers.items() if name not in hopeless}
    for name, record in measure_in_turn(rest, protocol, device.fingerprint).items():
        store.put(keys[name], record)


def _arguments(choice: Candidate, emitted: Emitted, device: Device) -> list[Any]:
    """Device tensors in the order of the function's parameters."""
    tensors = choice.workload.tensors
    reads = [random_buffer(tensors[read.tensor], read.layout) for read in emitted.reads]
    writes = [
        np.zeros(buffer_shape(tensors[write.tensor], write.layout), buffer_dtype(write.layout))
        for write in emitted.writes
    ]
    return [device.tensor(array) for array in (*reads, *emitted.constants, *writes)]
