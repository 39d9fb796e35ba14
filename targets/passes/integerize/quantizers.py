"""Reading `Quant` and `BipolarQuant` nodes, and recovering the integer codes of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.expressions import Doubles
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.program import Grid, Rounding

MAX_BITS = 8  # of a code that an anchor reads
ROUNDINGS: dict[str, Rounding] = {
    "ROUND": "ROUND",
    "HALF_EVEN": "ROUND",
    "FLOOR": "FLOOR",
    "CEIL": "CEIL",
    "DOWN": "ROUND_TO_ZERO",
    "ROUND_TO_ZERO": "ROUND_TO_ZERO",
    "UP": "UP",
    "HALF_UP": "HALF_UP",
    "HALF_DOWN": "HALF_DOWN",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantizer:
    """A quantizer node: real value = `scale` * (code - `zero_point`), as given in the model.

    `scale` and `zero_point` keep the shape they have in the model, which broadcasts.
    """

    grid: Grid
    scale: Doubles
    zero_point: Doubles
    rounding: Rounding = "ROUND"


def read_quantizer(node: Node, parameters: Sequence[NDArray[np.generic] | None]) -> Quantizer:
    """The quantizer that `node` is; `parameters` are its constant inputs after the first.

    Raises:
        ModelError: a parameter is computed at run time or out of range; unknown rounding.
    """
    names = ("scale",) if node.op == "BipolarQuant" else ("scale", "zero point", "bit width")
    if len(parameters) != len(names):
        raise node.error(
            f"it has {len(parameters)} parameters: its {', '.join(names)} are expected"
        )
    if node.op != "BipolarQuant" and not (node.has("signed") and node.has("narrow")):
        raise node.error("its attribute signed or narrow is missing")
    values = dict(zip(names, parameters, strict=False))
    for name in names:
        if values.get(name) is None:
            raise node.error(f"its {name} is not a constant", hint="Fold it into an initializer.")
    scale, zero_point, bits = (
        np.asarray(values.get(name, 0), np.float64) for name in ("scale", "zero point", "bit width")
    )
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise node.error("its scale is not positive and finite")
    if node.op == "BipolarQuant":
        grid = Grid(bits=1, signed=True, bipolar=True)
        return Quantizer(grid=grid, scale=scale, zero_point=np.zeros(1))
    if not np.all(np.isfinite(zero_point)):
        raise node.error("its zero point is not finite")
    grid = _grid(node, bits)
    return Quantizer(
        grid=grid, scale=scale, zero_point=zero_point, rounding=rounding_of(node, "ROUND")
    )


def rounding_of(node: Node, default: str) -> Rounding:
    """The rounding mode of `node`; a `ModelError` for one that QONNX does not define."""
    mode = node.text("rounding_mode", default).upper()
    if mode not in ROUNDINGS:
        raise node.error(
            f"rounding mode {mode} is not known", hint=f"Use one of {', '.join(ROUNDINGS)}."
        )
    return ROUNDINGS[mode]


def _grid(node: Node, bits: Doubles) -> Grid:
    width = float(bits.reshape(-1)[0]) if bits.size == 1 else 0.0
    if not 1 <= width <= 32 or width != round(width):
        raise node.error(f"its bit width is {bits.tolist()}, not one integer from 1 to 32")
    signed = bool(node.integer("signed", 1))
    if width == 1 and signed:  # a sign, by QONNX's own definition
        return Grid(bits=1, signed=True, bipolar=True)
    narrow = bool(node.integer("narrow", 1))
    if width == 1 and narrow:
        raise node.error("an unsigned narrow range of 1 bit holds only 0")
    return Grid(bits=int(width), signed=signed, narrow=narrow)


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """The integer codes behind a constant: constant = `scale` * `values`.

    `values` and `scale` have the constant's shape; a zero point is already subtracted.
    """

    values: NDArray[np.int32]
    scale: Doubles
    grid: Grid


def constant_codes(node: Node, real: NDArray[np.generic], quantizer: Quantizer) -> Codes | None:
    """The codes of `real`, the executor's result of the quantizer `node` on a constant.

    None where they do not fit an anchor: more than 8 bits, or a zero point that is no integer or
    pushes them out of 8 bits.
    """
    if quantizer.grid.bits > MAX_BITS:
        return None
    scale = np.broadcast_to(quantizer.scale, real.shape)
    exact = real.astype(np.float64) / scale  # the zero point is subtracted already
    values = np.rint(exact).astype(np.int32)
    if not np.allclose(exact, values, rtol=0, atol=1e-3):
        return None
    grid = _shifted(quantizer, values)
    return None if grid is None else Codes(values=values, scale=scale, grid=grid)


def _shifted(quantizer: Quantizer, values: NDArray[np.int32]) -> Grid | None:
    """The narrowest grid for codes whose zero point was subtracted."""
    if np.all(quantizer.zero_point == 0):
        return quantizer.grid
    signed = bool(values.min() < 0)
    for bits in range(quantizer.grid.bits, MAX_BITS + 1):
        grid = Grid(bits=bits, signed=signed)
        if grid.low <= values.min() and values.max() <= grid.high:
            return grid
    return None
