"""Sums that are stored as they are, in 16 bits, where a float would be stored otherwise.

A convolution whose result is no code until another is added, as a shortcut's, would be written as
float32 and read by the step that adds. Where its sums are proven to fit 16 bits, they are written
instead, and the step that reads them scales them: as many operations, in half of the memory, whose
time is what a shortcut takes (ResNet-18 at 224 writes and reads 700 KB of such floats [o]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mpqdeploy.targets.kernels.bounds import magnitude
from mpqdeploy.targets.layout import SHORT
from mpqdeploy.targets.passes.integerize.expressions import distribute, mapped
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Load,
    Output,
    Program,
    Step,
    Tensor,
    operands_of,
    walk,
)
from mpqdeploy.targets.rebuilt import substituted


def store_sums(program: Program) -> Program:
    """The program with such tensors replaced, by ones of the same name and `.sums`."""
    found = {
        output.tensor: output.value
        for step in program.steps
        for output in step.outputs
        if _fits(step, output, program)
    }
    if not found:
        return program
    tensors = {
        short.name: short
        for tensor in program.tensors.values()
        for short in [_short(tensor) if tensor.name in found else tensor]
    }
    steps = tuple(_changed(step, found) for step in program.steps)
    return replace(program, tensors=tensors, steps=steps)


def _fits(step: Step, output: Output, program: Program) -> bool:
    """Whether an output is scaled sums of 16 bits, and is read by epilogues alone."""
    tensor = program.tensors[output.tensor]
    ports = {port.tensor for port in (*program.inputs, *program.outputs)}
    taken = tensor.name in ports or _named(tensor.name) in program.tensors
    if tensor.grid is not None or taken or not isinstance(step.anchor, Conv):
        return False
    scaled = all(isinstance(part, Acc | Affine | Clip) for part in walk(output.value))
    if not scaled or magnitude(Acc(), step, program.tensors) > SHORT.high:
        return False
    return all(_reads_plainly(reader, tensor, program) for reader in program.consumers(tensor.name))


def _reads_plainly(reader: Step, tensor: Tensor, program: Program) -> bool:
    """Whether a step adds the tensor as it is: beyond its elements, a float reads as 0, but a sum
    of 0 is none."""
    loads = [load for load in reader.loads() if load.tensor == tensor.name]
    anchor = tensor.name in operands_of(reader.anchor)
    shapes = {program.tensors[output.tensor].shape for output in reader.outputs}
    return not anchor and loads == [Load(tensor=tensor.name)] and shapes == {tensor.shape}


def _short(tensor: Tensor) -> Tensor:
    return replace(tensor, name=_named(tensor.name), grid=SHORT)


def _named(tensor: str) -> str:
    return f"{tensor}.sums"


def _changed(step: Step, found: Mapping[str, Expr]) -> Step:
    """The step, writing and reading sums."""
    touched = found.keys() & {*step.reads(), *(output.tensor for output in step.outputs)}
    if not touched:
        return step
    written = [
        Output(tensor=_named(output.tensor), value=Acc()) if output.tensor in found else output
        for output in step.outputs
    ]
    # Of all outputs together: what they share stays one object.
    known: dict[Expr, Expr] = {
        Load(tensor=name): substituted(found[name], {Acc(): Load(tensor=_named(name))}, mapped)
        for name in touched
    }
    outputs = [replace(o, value=substituted(o.value, known, mapped)) for o in written]
    return replace(step, outputs=distribute(outputs))
