"""Behind pass 3: maxima of sums instead of codes, where a pool follows a convolution.

Where an epilogue never falls as its sum grows, the code of the largest sum is the largest code. So
the kernel of the convolution may take the maxima itself, before its epilogue
(`kernels/pooled_sums.py`). Of a channel whose scale is negative, the weights are negated with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import TakesPools
from mpqdeploy.targets.passes.integerize.expressions import ExactAffine, affine, mapped
from mpqdeploy.targets.passes.select import Choice
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Clip,
    Conv,
    Expr,
    Pool,
    Program,
    Quant,
    Step,
    walk,
)
from mpqdeploy.targets.rebuilt import substituted


def take_pools(
    program: Program, choices: Mapping[str, Choice], isa: Isa
) -> tuple[Program, Mapping[str, Choice]]:
    """The program with every pool that a kernel takes as one step with the convolution before it,
    which keeps its name; and the choices for its steps."""
    taken: dict[str, Step] = {}  # by the pool's name
    for step in program.steps:
        choice, reader = choices[step.name], _only_reader(program, step)
        if reader is None or not isinstance(choice.kernel, TakesPools):
            continue
        joined = _joined(program, step, reader)
        if joined and choice.kernel.takes_pool(joined, program.tensors, isa, choice.schedule):
            taken[reader.name] = joined
    gone = {step.name for step in taken.values()}
    steps = tuple(taken.get(step.name, step) for step in program.steps if step.name not in gone)
    return replace(program, steps=steps), {step.name: choices[step.name] for step in steps}


def _only_reader(program: Program, step: Step) -> Step | None:
    """Who reads the one tensor that `step` writes, if that is one step and no output."""
    if len(step.outputs) != 1:
        return None
    name = step.outputs[0].tensor
    readers = program.consumers(name)
    written_out = name in {port.tensor for port in program.outputs}
    return None if written_out or len(readers) != 1 else readers[0]


def _joined(program: Program, step: Step, reader: Step) -> Step | None:
    """Both as one step, if they are a convolution and a maximum pool, and codes follow sums."""
    conv, pool, output = step.anchor, reader.anchor, step.outputs[0]
    if not isinstance(conv, Conv) or not isinstance(pool, Pool) or pool.kind != "max":
        return None
    coded = isinstance(output.value, Quant) and (
        output.value.grid == program.tensors[output.tensor].grid
    )
    loaded = output.tensor in {load.tensor for load in reader.loads()}
    rising = _rising(conv, output.value)
    if loaded or not coded or rising is None:
        return None
    weights, value = rising
    known: dict[Expr, Expr] = {Acc(): value}  # of all outputs: what they share stays one object
    outputs = tuple(replace(o, value=substituted(o.value, known, mapped)) for o in reader.outputs)
    return Step(
        name=step.name,
        anchor=replace(conv, weights=weights, pool=pool),
        outputs=outputs,
        sources=tuple(dict.fromkeys([*step.sources, *reader.sources])),
        fallback=(*step.fallback, *reader.fallback),
    )


def _rising(conv: Conv, value: Expr) -> tuple[NDArray[np.int32], Expr] | None:
    """Weights and an epilogue with the same codes, which rise with the sums of all channels; None
    where there are none."""
    chain = list(walk(value))
    falls = np.zeros(conv.weights.shape[0], bool)
    for part in chain:
        if isinstance(part, Affine):
            falls = falls ^ (part.mul < 0)
        elif not isinstance(part, Acc | Clip | Quant):
            return None
    if not falls.any():
        return conv.weights, value
    weights = np.where(falls[:, None, None, None], -conv.weights, conv.weights)
    grid, scaled = conv.weight_grid, chain[1]
    if weights.min() < grid.low or weights.max() > grid.high:
        return None
    if not isinstance(scaled, ExactAffine):
        return None
    turned = affine(Acc(), scaled.exact_mul * np.where(falls, -1.0, 1.0), scaled.exact_add)
    return weights, substituted(value, {scaled: turned}, mapped)
