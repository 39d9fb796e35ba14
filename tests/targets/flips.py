"""Layer-by-layer comparison of two executors on identical inputs.

Two correct executors round differently in float32, so a value at a quantizer's threshold may get
either of two codes. Here a differing code counts as a *flip* only where the value before the
threshold is proven to lie within the rounding of float32; anything else is *wrong*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets import reference
from mpqdeploy.targets.layout import SHORT
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    FloatConv,
    Given,
    Load,
    MatMul,
    Pool,
    Product,
    Program,
    Quant,
    Step,
    Sum,
    Tensor,
    operands_of,
)

Doubles = NDArray[np.float64]
Values = Mapping[str, NDArray[Any]]
UNIT = 2.0**-24  # half an ulp of float32 at 1
ROUNDINGS = 16  # float32 operations that an executor may spend where the program has one affine


@dataclass(frozen=True, kw_only=True)
class Flips:
    """How many of a tensor's `codes` differ at a threshold (`flips`), or elsewhere (`wrong`).

    `ties` are those flips whose exact value is the threshold itself, as a sum of few small codes
    often is: not how far an executor rounds decides them, but that it rounds at all.
    """

    tensor: str
    step: str
    codes: int
    flips: int
    ties: int
    wrong: int


def compare(program: Program, values: Values) -> tuple[Flips, ...]:
    """Every step run by the reference on the tensors `values` of another executor.

    `values`: logical `[N, H, W, C]` by tensor name, codes for tensors with a grid; a tensor that is
    missing is replaced by the reference's own.
    """
    known = dict(values)
    result = []
    for step in program.steps:
        expected = reference.run_step(step, program.tensors, known)
        for output in step.outputs:
            tensor = program.tensors[output.tensor]
            if tensor.name not in values:
                known[tensor.name] = expected[tensor.name]
                continue
            got, want = values[tensor.name], expected[tensor.name]
            value, bound, tied = _with_ties(
                output.value, step, program.tensors, known, tensor.shape
            )
            distance = np.abs(got - (value if tensor.grid is None else want))
            excused = distance <= bound
            differs = got != want
            flipped = differs & excused & (tensor.grid is not None)
            result.append(
                Flips(
                    tensor=tensor.name,
                    step=step.name,
                    codes=int(got.size),
                    flips=int(np.sum(flipped)),
                    ties=int(np.sum(flipped & tied)),
                    wrong=int(np.sum(differs & ~excused)),
                )
            )
    return tuple(result)


def _with_ties(
    expr: Expr,
    step: Step,
    tensors: Mapping[str, Tensor],
    values: Values,
    shape: tuple[int, int, int, int],
) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
    """As `_bounded`, and where the value before a last quantizer is a threshold exactly."""
    if not isinstance(expr, Quant):
        return *_bounded(expr, step, tensors, values, shape), np.zeros(1, bool)
    exact, error = _bounded(expr.x, step, tensors, values, shape)
    tied = _code(expr, exact, np.zeros_like(exact))[1] > 0
    return *_code(expr, exact, error), tied


def from_context(program: Program, context: Values) -> dict[str, NDArray[Any]]:
    """The full execution context of qonnx (real values by ONNX name) as tensors of `program`.

    Tensors that the context does not hold under their name are left out, and sums, which are not
    what any node computes.
    """
    values: dict[str, NDArray[Any]] = {}
    for tensor in program.tensors.values():
        if tensor.grid == SHORT:
            continue
        name = tensor.name
        if name not in context:  # an output's name, with a number where its codes are read too
            name = name.rpartition(".")[0]
        real = context.get(name)
        if real is None or real.size != np.prod(tensor.shape):
            continue
        logical = reference.to_logical(real, tensor.shape)
        if tensor.grid is None:
            values[tensor.name] = logical
        else:
            codes = logical.astype(np.float64) / tensor.scale + tensor.zero_point
            values[tensor.name] = np.rint(codes).astype(np.int32)
    return values


def _bounded(
    expr: Expr,
    step: Step,
    tensors: Mapping[str, Tensor],
    values: Values,
    shape: tuple[int, int, int, int],
) -> tuple[Doubles, Doubles]:
    """`expr` in float64, and how far a float32 executor may be from it."""

    def below(operand: Expr) -> tuple[Doubles, Doubles]:
        return _bounded(operand, step, tensors, values, shape)

    match expr:
        case Acc():
            return _accumulator(step, tensors, values)
        case Load():
            value = reference.load(expr, shape, tensors[expr.tensor], values[expr.tensor])
            return value.astype(np.float64), UNIT * np.abs(value).astype(np.float64)
        case Affine():
            x, error = below(expr.x)
            mul, add = expr.mul.astype(np.float64), expr.add.astype(np.float64)
            magnitude = np.abs(mul * x) + np.abs(add)
            return mul * x + add, np.abs(mul) * error + ROUNDINGS * UNIT * magnitude
        case Sum():
            (x, x_error), (y, y_error) = below(expr.x), below(expr.y)
            return x + y, x_error + y_error + UNIT * (np.abs(x) + np.abs(y))
        case Product():
            (x, x_error), (y, y_error) = below(expr.x), below(expr.y)
            return x * y, np.abs(y) * x_error + np.abs(x) * y_error + UNIT * np.abs(x * y)
        case Apply():
            x, error = below(expr.x)
            function = reference.FUNCTIONS[expr.function]
            value, ends = function(x), (function(x - error), function(x + error))
            spread = np.maximum(np.abs(ends[0] - value), np.abs(ends[1] - value))
            return value, spread + ROUNDINGS * UNIT * (np.abs(value) + 1)
        case Clip():
            x, error = below(expr.x)
            return np.clip(x, expr.low, expr.high), error
        case Quant():
            return _code(expr, *below(expr.x))


def _accumulator(
    step: Step, tensors: Mapping[str, Tensor], values: Values
) -> tuple[Doubles, Doubles]:
    """Exact here; a float executor adds one rounding for every tap."""
    acc = reference.accumulate(step, tensors, values)
    if acc is None or step.anchor is None:
        raise ValueError(f"step {step.name} has an accumulator and no anchor")
    if isinstance(step.anchor, Conv | FloatConv):
        _, height, width, inner = step.anchor.weights.shape
        magnitude = reference.magnitude(step.anchor, tensors, values)
        return acc.astype(np.float64), height * width * inner * UNIT * magnitude
    if isinstance(step.anchor, Pool):
        taps = step.anchor.kernel[0] * step.anchor.kernel[1]
        largest = np.abs(values[step.anchor.input]).max(initial=0) * UNIT * taps
        exact = tensors[step.anchor.input].grid is not None
        return acc.astype(np.float64), UNIT * np.abs(acc) + (0.0 if exact else largest)
    if isinstance(step.anchor, Given):
        return acc.astype(np.float64), np.zeros(acc.shape)
    if isinstance(step.anchor, MatMul):
        left, right = (np.abs(values[name]) for name in operands_of(step.anchor))
        magnitude = reference.matrix_products(step.anchor, left, right)
        return acc.astype(np.float64), left.shape[3] * UNIT * magnitude
    largest = np.abs(values[step.anchor.input]).max(initial=0) + ROUNDINGS
    return acc.astype(np.float64), largest * ROUNDINGS * UNIT * np.abs(acc)


def _code(quant: Quant, x: Doubles, error: Doubles) -> tuple[Doubles, Doubles]:
    """The code, and by how much it may differ: not at all away from a threshold."""
    grid = quant.grid
    if grid.bipolar:
        return np.where(x >= 0, 1.0, -1.0), np.where(np.abs(x) <= error, 2.0, 0.0)
    half = 0.5 if quant.rounding in ("ROUND", "HALF_UP", "HALF_DOWN") else 0.0
    nearest = np.clip(np.rint(x - half) + half, grid.low + half, grid.high - half)
    steps = np.where(np.abs(x - nearest) <= error, np.maximum(np.ceil(error), 1.0), 0.0)
    return np.clip(reference.ROUND[quant.rounding](x), grid.low, grid.high), steps
