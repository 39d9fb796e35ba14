"""Pass 5, emit: one Relax module of integer kernels, memory planned by Relax.

The module has three functions. `main` runs the network. `trace` runs the same kernels on the same
constants and returns every buffer between them, which is what verification compares. `metadata`
returns, as JSON in a byte tensor, what the ports and the traced buffers are: a library describes
itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted
from mpqdeploy.targets.layout import Layouts, buffer_dtype, buffer_shape
from mpqdeploy.targets.passes.select import Choice
from mpqdeploy.targets.program import Port, Program


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


def emit(program: Program, choices: Mapping[str, Choice], layouts: Layouts, isa: Isa) -> Module:
    """Emit every step's kernel and chain them. Outputs nobody reads are not written."""
    from tvm import relax

    emitted = {
        step.name: choices[step.name].kernel.emit(
            step, program.tensors, layouts, isa, choices[step.name].schedule
        )
        for step in program.steps
    }
    traced = tuple(buffer for function in emitted.values() for buffer in function.writes)
    builder = relax.BlockBuilder()
    functions = _add_functions(builder, emitted)
    constants = {name: [relax.const(a) for a in fn.constants] for name, fn in emitted.items()}
    for name, results in (
        ("main", [_port_buffer(program, layouts, port) for port in program.outputs]),
        ("trace", traced),
    ):
        _chain(builder, name, results, program, layouts, emitted, functions, constants)
    _add_metadata(builder, _metadata(program, traced))
    return Module(relax=builder.get(), emitted=emitted, traced=traced)


def _add_functions(builder: Any, emitted: Mapping[str, Emitted]) -> dict[str, Any]:
    """One global function per distinct kernel: layers of one shape share their machine code."""
    from tvm_ffi import structural_equal, structural_hash

    known: dict[int, list[tuple[Any, Any]]] = {}
    functions: dict[str, Any] = {}
    for index, (step, function) in enumerate(emitted.items()):
        bare = function.func.without_attr("global_symbol")
        same = known.setdefault(structural_hash(bare), [])
        found = next((var for other, var in same if structural_equal(bare, other)), None)
        if found is None:
            symbol = f"kernel_{index}"
            found = builder.add_func(bare.with_attr("global_symbol", symbol), symbol)
            same.append((bare, found))
        functions[step] = found
    return functions


def _chain(
    builder: Any,
    name: str,
    results: Sequence[Buffer],
    program: Program,
    layouts: Layouts,
    emitted: Mapping[str, Emitted],
    functions: Mapping[str, Any],
    constants: Mapping[str, Sequence[Any]],
) -> None:
    """Add the Relax function `name`: inputs in port order, `results` as a tuple."""
    from tvm import relax

    values: dict[Buffer, Any] = {}
    inputs = []
    for index, port in enumerate(program.inputs):
        buffer = _port_buffer(program, layouts, port)
        values[buffer] = relax.Var(f"input_{index}", _type(program, buffer))
        inputs.append(values[buffer])
    with builder.function(name, inputs):
        for step in program.steps:
            function = emitted[step.name]
            if not function.writes:
                continue
            call = relax.call_tir(
                functions[step.name],
                [*(values[buffer] for buffer in function.reads), *constants[step.name]],
                [_type(program, buffer) for buffer in function.writes],
            )
            written = builder.emit(call)
            if len(function.writes) == 1:
                values[function.writes[0]] = written
                continue
            for index, buffer in enumerate(function.writes):
                values[buffer] = builder.emit(relax.TupleGetItem(written, index))
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


def _metadata(program: Program, traced: Sequence[Buffer]) -> dict[str, Any]:
    return {
        "format": 1,
        "inputs": [asdict(port) for port in program.inputs],
        "outputs": [asdict(port) for port in program.outputs],
        "trace": [asdict(buffer) for buffer in traced],
    }
