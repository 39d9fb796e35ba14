"""Pass 5, emit: one Relax module of integer kernels.

The module has three functions. `main` runs the network. `trace` runs the same kernels on the same
constants and returns every buffer between them, which is what verification compares. `metadata`
returns, as JSON in a byte tensor, what the ports and the traced buffers are: a library describes
itself. `main` and `trace` each make one call, of a function that calls all kernels (`chain`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted
from mpqdeploy.targets.kernels.following import AHEAD
from mpqdeploy.targets.kernels.prefetch import LINE
from mpqdeploy.targets.layout import Layouts, buffer_dtype, buffer_shape
from mpqdeploy.targets.passes.arena import aligned
from mpqdeploy.targets.passes.chain import PREFIX, Call, Constants, Pointed, chain, on_pointers
from mpqdeploy.targets.passes.select import Choice
from mpqdeploy.targets.program import Conv, Port, Program, Step

LEAST_ASKED = 32 << 10  # bytes: fewer arrive while the first ones are used
MOST_ASKED = 640 << 10  # bytes: a second-level cache of 1 MiB has other things to hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Module:
    """The Relax module, and the functions it was built from (by step name)."""

    relax: Any  # tvm.IRModule
    emitted: Mapping[str, Emitted]
    traced: tuple[Buffer, ...]

    @property
    def constant_bytes(self) -> int:
        """Bytes of packed weights and per-channel constants that the library carries."""
        arrays = {id(a): a.nbytes for fn in self.emitted.values() for a in fn.constants}
        return sum(arrays.values())


def emit(
    program: Program,
    choices: Mapping[str, Choice],
    layouts: Layouts,
    isa: Isa,
    *,
    threads: int = 1,
) -> Module:
    """Emit every step's kernel and chain them. Outputs nobody reads are not written.

    `threads` is how many the library asks the runtime for; what runs on them, the schedules say.
    """
    from tvm import relax

    emitted = {
        step.name: choices[step.name].kernel.emit(
            step, program.tensors, layouts, isa, choices[step.name].schedule
        )
        for step in program.steps
    }
    if threads == 1:
        for step, lines in asked_for(program, emitted).items():
            choice = choices[step.name]
            schedule = {**choice.schedule, AHEAD: lines}
            emitted[step.name] = choice.kernel.emit(step, program.tensors, layouts, isa, schedule)
    emitted = _share_constants(emitted)
    traced = tuple(buffer for function in emitted.values() for buffer in function.writes)
    builder = relax.BlockBuilder()
    kernels = _add_kernels(builder, emitted)
    steps = [
        Call(kernel=kernels[name], emitted=function)
        for name, function in emitted.items()
        if function.writes
    ]
    ports = [_port_buffer(program, layouts, port) for port in program.inputs]
    ends = [_port_buffer(program, layouts, port) for port in program.outputs]
    constants = Constants.of(steps)
    held = relax.const(constants.data)
    for name, results in (("main", ends), ("trace", traced)):
        _add_function(builder, name, ports, results, steps, program, constants, held)
    _add_metadata(builder, _metadata(program, traced, threads))
    return Module(relax=builder.get(), emitted=emitted, traced=traced)


def asked_for(program: Program, emitted: Mapping[str, Emitted]) -> dict[Step, int]:
    """Steps that ask for the constants behind their own, and how many lines of them: those before a
    convolution of one pixel, whose time is that of its weights' arrival (`kernels/following.py`).

    Several threads have second-level caches of their own, and the one that asks may be another
    than the one that needs.
    """
    found: dict[Step, int] = {}
    busy: Step | None = None
    behind = 0  # bytes of constants of the steps after `busy`
    for step in program.steps:
        if not isinstance(step.anchor, Conv):
            behind += _constant_bytes(emitted[step.name])
            continue
        batch, height, width, _ = program.tensors[step.outputs[0].tensor].shape
        if batch * height * width > 1:
            busy, behind = step, 0
            continue
        behind += _constant_bytes(emitted[step.name])
        if busy is not None and behind >= LEAST_ASKED:
            found[busy] = min(behind, MOST_ASKED) // LINE
    return found


def _constant_bytes(function: Emitted) -> int:
    return sum(aligned(array.nbytes) for array in function.constants)


def _share_constants(emitted: Mapping[str, Emitted]) -> dict[str, Emitted]:
    """Equal constants as one array: a layer that runs several times packs the same weights."""
    known: dict[tuple[Any, ...], Any] = {}

    def one(array: Any) -> Any:
        return known.setdefault((array.dtype.str, array.shape, array.tobytes()), array)

    return {
        step: replace(function, constants=tuple(one(array) for array in function.constants))
        for step, function in emitted.items()
    }


def _add_kernels(builder: Any, emitted: Mapping[str, Emitted]) -> dict[str, Pointed]:
    """One private function per distinct kernel: layers of one shape share their machine code."""
    from tvm_ffi import structural_equal, structural_hash

    known: dict[int, list[tuple[Any, Pointed]]] = {}
    kernels: dict[str, Pointed] = {}
    for index, (step, function) in enumerate(emitted.items()):
        bare = function.func.without_attr("global_symbol")
        same = known.setdefault(structural_hash(bare), [])
        found = next((kernel for other, kernel in same if structural_equal(bare, other)), None)
        if found is None:
            found = on_pointers(bare)
            name = builder.add_func(found.function, f"{PREFIX}{index}")
            found = replace(found, function=name)
            same.append((bare, found))
        kernels[step] = found
    return kernels


def _add_function(
    builder: Any,
    name: str,
    inputs: Sequence[Buffer],
    results: Sequence[Buffer],
    steps: Sequence[Call],
    program: Program,
    constants: Constants,
    held: Any,
) -> None:
    """Add the Relax function `name`: inputs in port order, `results` as a tuple.

    `held` is the constant that both functions share.
    """
    from tvm import relax

    written = list(dict.fromkeys(buffer for buffer in results if buffer not in inputs))
    symbol = f"{name}_kernels"
    function = builder.add_func(
        chain(symbol, inputs, constants, written, steps, program.tensors), symbol
    )
    arguments = [relax.Var(f"input_{i}", _type(program, b)) for i, b in enumerate(inputs)]
    with builder.function(name, arguments):
        values = dict(zip(inputs, arguments, strict=True))
        if written:
            types = [_type(program, buffer) for buffer in written]
            call = builder.emit(relax.call_tir(function, [*arguments, held], types))
            if len(written) == 1:
                values[written[0]] = call
            else:
                for index, buffer in enumerate(written):
                    values[buffer] = builder.emit(relax.TupleGetItem(call, index))
        builder.emit_func_output(relax.Tuple([values[buffer] for buffer in results]))


def _add_metadata(builder: Any, data: Any) -> None:
    from tvm import relax

    text = np.frombuffer(json.dumps(data).encode(), np.uint8)
    with builder.function("metadata", []):
        builder.emit_func_output(relax.const(text))


def _type(program: Program, buffer: Buffer) -> Any:
    from tvm import relax

    shape = buffer_shape(program.tensors[buffer.tensor], buffer.layout)
    return relax.TensorType(shape, buffer_dtype(buffer.layout))


def _port_buffer(program: Program, layouts: Layouts, port: Port) -> Buffer:
    layout = next(layout for layout in layouts[port.tensor] if layout.kind == "float")
    return Buffer(tensor=port.tensor, layout=layout)


def _metadata(program: Program, traced: Sequence[Buffer], threads: int) -> dict[str, Any]:
    return {
        "format": 1,
        "threads": threads,
        "inputs": [asdict(port) for port in program.inputs],
        "outputs": [asdict(port) for port in program.outputs],
        "trace": [asdict(buffer) for buffer in traced],
    }
