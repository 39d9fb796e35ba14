"""What an anchor asks of its input: an integer code whose sums stay in int32."""

from __future__ import annotations

import numpy as np

from mpqdeploy.targets.passes.integerize.builder import Coded, Value
from mpqdeploy.targets.passes.integerize.context import Context
from mpqdeploy.targets.passes.integerize.expressions import Doubles
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Grid

INT32_MAX = 2**31 - 1


def why_no_code(value: Value) -> str:
    """Why an anchor cannot read `value` as codes; empty where it can."""
    coded = value.coded
    if coded is None:
        why = value.reason or "no quantizer of at most 8 bits comes before it"
        return f"its input '{value.name}' is not an integer code: {why}"
    zero = coded.zero_point
    if zero.size != 1 or zero[0] != np.rint(zero[0]):
        return "the zero point of its input is not one integer"
    if not coded.grid.bipolar and not coded.grid.low <= zero[0] <= coded.grid.high:
        return f"the zero point of its input, {zero[0]:g}, is outside its code's range"
    if coded.grid.bipolar and zero[0] != 0:
        return f"its input is bipolar around {zero[0]:g}"
    return ""


def input_code(context: Context, node: Node, value: Value) -> tuple[str, Coded]:
    """The tensor of integer codes that an anchor reads, and its meaning.

    Raises:
        ModelError: the value is no code (see `why_no_code`).
    """
    coded, why = value.coded, why_no_code(value)
    if coded is None or why:
        raise node.error(why, hint="Put a Quant or BipolarQuant node on it.")
    return context.builder.write_codes(value.group, coded), coded


def largest(grid: Grid, zero_point: Doubles) -> int:
    """The largest magnitude of code - zero point."""
    zero = int(zero_point[0])
    return max(abs(grid.low - zero), abs(grid.high - zero))
