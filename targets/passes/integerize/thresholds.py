"""`Trunc` and `MultiThreshold`: quantizers that are no single rounded quotient."""

from __future__ import annotations

import math

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Coded, Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.elementwise import quantized, scalar
from mpqdeploy.targets.passes.integerize.expressions import Doubles, affine, quantize, total
from mpqdeploy.targets.passes.integerize.quantizers import MAX_BITS, rounding_of
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Expr, Grid, Quant, Rounding

BIPOLAR = Grid(bits=1, signed=True, bipolar=True)
WIDEST = Grid(bits=32, signed=True)  # holds whatever float32 rounds exactly
INPUTS_OF_VERSION_1 = 5


def trunc(context: Context, node: Node) -> Value:
    """round(x / scale + zero point), divided by a power of two and rounded again.

    In version 1 of the operator the scale stays and nothing is clipped; in version 2 the output has
    a scale, a width and a sign of its own.
    """
    numbers = [scalar(node, context.required(node, i)) for i in range(1, len(node.inputs))]
    first = len(node.inputs) == INPUTS_OF_VERSION_1
    if len(numbers) < (4 if first else 5) or not all(map(math.isfinite, numbers)):
        raise node.error("a parameter of it is missing or not finite")
    scale, zero, bits, *output = numbers
    wide = scale <= 0 or not (1 <= bits <= 32 and 1 <= output[-1] <= 32)
    if wide or bits != round(bits) or output[-1] != round(output[-1]) or output[0] <= 0:
        raise node.error(f"its scale is {scale:g}, its widths {bits:g} and {output[-1]:g}")
    value = context.value(node)
    one, middle = np.full(1, scale), np.full(1, zero)
    nearest: Rounding = "ROUND"
    whole = quantize(value.expr, one, middle, WIDEST, nearest)
    mode = rounding_of(node, "FLOOR")
    if first:
        divisor = 2.0 ** (bits - output[0])
        grid, scales = _reach(value, divisor), one
    else:
        divisor = 2.0 ** round(math.log2(output[0] / scale))
        grid, scales = _grid(node, int(output[1])), np.full(1, output[0])
        middle = middle / divisor
    expr = Quant(x=affine(whole, 1 / divisor), grid=grid, rounding=mode)
    coded = Coded(name=node.output, expr=expr, grid=grid, scale=scales, zero_point=middle)
    return quantized(context, node, value, coded)


def _grid(node: Node, bits: int) -> Grid:
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    if bits == 1 and (signed or narrow):
        raise node.error(f"its output of 1 bit is {'signed' if signed else 'narrow'}")
    return Grid(bits=bits, signed=signed, narrow=narrow)


def _reach(value: Value, divisor: float) -> Grid:
    """The narrowest grid that no truncated code leaves."""
    coded = value.coded
    if coded is None or divisor < 1:
        return WIDEST
    low, high = math.floor(coded.grid.low / divisor), math.ceil(coded.grid.high / divisor)
    signed = low < 0
    bits = next(b for b in range(2, 40) if _holds(Grid(bits=b, signed=signed), low, high))
    return Grid(bits=bits, signed=signed)


def _holds(grid: Grid, low: int, high: int) -> bool:
    return grid.low <= low and high <= grid.high


def multi_threshold(context: Context, node: Node) -> Value:
    """out_scale * (number of thresholds that x reaches) + out_bias.

    A step at a threshold is a sign, and signs are counted.
    """
    table = np.asarray(context.required(node, 1), np.float64)
    value = context.image(node)
    layout = node.text("data_layout", "") or ("NC" if len(value.shape) == 2 else "NCHW")
    if table.ndim != 2 or layout not in ("NC", "NCHW") or len(layout) != len(value.shape):
        raise node.error(
            f"its thresholds have shape {list(table.shape)}, its data_layout is {layout}",
            hint="Thresholds are [C, steps] or [1, steps], images NCHW.",
        )
    steps = table.shape[1]
    if table.shape[0] not in (1, value.channels) or not 1 <= steps < 1 << MAX_BITS:
        raise node.error(
            f"its thresholds have shape {list(table.shape)} for {value.channels} channels",
            hint=f"At most {(1 << MAX_BITS) - 1} steps are supported.",
        )
    if not np.all(np.isfinite(table)):
        raise node.error("its thresholds are not finite")
    scale, bias = node.number("out_scale", 1.0), node.number("out_bias", 0.0)
    if scale <= 0:
        raise node.error(f"its out_scale is {scale:g}")
    signs = [_sign(value.expr, table[:, step]) for step in range(steps)]
    if steps == 1 and bias == -scale / 2:
        coded = Coded(
            name=node.output,
            expr=signs[0],
            grid=BIPOLAR,
            scale=np.full(1, scale / 2),
            zero_point=np.zeros(1),
        )
        return context.coded(node, value, coded)
    coded = Coded(
        name=node.output,
        expr=affine(total(signs), 0.5, steps / 2),
        grid=Grid(bits=steps.bit_length(), signed=False),
        scale=np.full(1, scale),
        zero_point=np.full(1, -bias / scale),
    )
    return context.coded(node, value, coded)


def _sign(x: Expr, threshold: Doubles) -> Expr:
    return Quant(x=affine(x, 1.0, -threshold), grid=BIPOLAR)


HANDLERS: dict[str, Handler] = {"MultiThreshold": multi_threshold, "Trunc": trunc}
