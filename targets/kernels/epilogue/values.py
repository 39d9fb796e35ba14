"""Epilogue expressions as TIR: float32 vectors of channels, or of pixels of a row."""

from __future__ import annotations

from math import isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.base import Buffer, Tensors
from mpqdeploy.targets.kernels.bounds import converts
from mpqdeploy.targets.kernels.epilogue.error_function import erf
from mpqdeploy.targets.kernels.epilogue.loads import Source
from mpqdeploy.targets.kernels.epilogue.vectors import (
    Place,
    declare,
    integer,
    ramp,
    readable,
    real,
    spread,
    vector_type,
)
from mpqdeploy.targets.kernels.prefetch import prefetch_channels
from mpqdeploy.targets.kernels.quads import Order
from mpqdeploy.targets.layout import (
    CHANNEL_BLOCK,
    Layouts,
    storage_offset,
)
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Expr,
    Floats,
    Grid,
    Load,
    Product,
    Quant,
    Step,
    Sum,
    walk,
)

# x + MAGIC is x rounded half to even, for |x| < 2^21, and the low bits of its representation are
# the integer itself: rounding and conversion in one vector addition on every CPU.
MAGIC = 1.5 * 2.0**23
MAGIC_WORD = 0x4B400000  # MAGIC's representation
MAGIC_BITS = 21


class Values:
    """The buffers and constants of a step's expressions, and their evaluation."""

    def __init__(
        self, step: Step, tensors: Tensors, layouts: Layouts, order: Order | None = None
    ) -> None:
        """`order`: of the constants, by channel unless given."""
        self._step = step
        self._order = order
        self._tensors = tensors
        self._channels = tensors[step.outputs[0].tensor].shape[3]
        self._sources: dict[str, int] = {}
        self._reads: list[Buffer] = []
        self._proven: dict[Expr, bool] = {}
        self._read_args: list[Any] = []
        self._vectors: dict[int, int] = {}  # by identity of the array
        self._vector_values: list[NDArray[np.float32]] = []
        self._scalars: dict[int, int] = {}
        self._scalar_values: list[float] = []
        self._constant_args: list[Any] = []
        for load in step.loads():
            if load.tensor not in self._sources:
                self._sources[load.tensor] = len(self._reads)
                self._reads.append(readable(load.tensor, layouts))
        for output in step.outputs:
            for expr in walk(output.value):
                if isinstance(expr, Affine):
                    self._collect(expr.mul, 1)
                    self._collect(expr.add, 0)

    def _collect(self, values: Floats, neutral: float) -> None:
        """Constants are arguments, scalars too: layers of one shape then share machine code."""
        if values.shape not in ((1,), (self._channels,)):
            raise ValueError(f"an affine has shape {values.shape}, not [1] or [{self._channels}]")
        if (values == neutral).all() or id(values) in self._scalars or id(values) in self._vectors:
            return
        if (values == values[0]).all():
            self._scalars[id(values)] = len(self._scalars)
            self._scalar_values.append(float(values[0]))
            return
        self._vectors[id(values)] = len(self._vectors)
        padding = -len(values) % CHANNEL_BLOCK
        padded = np.pad(values.astype(np.float32), (0, padding))
        self._vector_values.append(padded[self._order.positions] if self._order else padded)

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return tuple(self._reads)

    @property
    def constants(self) -> tuple[NDArray[Any], ...]:
        scalars = np.array(self._scalar_values, np.float32)
        return (*self._vector_values, *([scalars] if self._scalars else []))

    def declare_reads(self) -> None:
        self._read_args = [
            declare(f"load{i}", buffer, self._tensors) for i, buffer in enumerate(self._reads)
        ]

    def declare_constants(self) -> None:
        self._constant_args = [
            T.arg(f"constant{i}", T.buffer(array.shape, "float32"))
            for i, array in enumerate(self.constants)
        ]

    def at(self, place: Place, acc: Any) -> Evaluation:
        """Values at one place; `acc` is the accumulator there, int32 or int64 of `place.lanes`
        lanes."""
        return Evaluation(self, place, acc)

    def coefficient(self, values: Floats, place: Place) -> Any:
        """A per-channel constant as a float32 vector."""
        if id(values) in self._scalars:
            scalar = self._constant_args[-1][self._scalars[id(values)]]
            return spread(scalar, place.lanes)
        vector = self._constant_args[self._vectors[id(values)]]
        if place.axis == "channel":
            return vector[ramp(place.c, place.lanes)]
        return spread(vector[place.c], place.lanes)

    def converts(self, expr: Expr) -> bool:
        """See `bounds.converts`."""
        if expr not in self._proven:
            self._proven[expr] = converts(expr, self._step, self._tensors)
        return self._proven[expr]

    def prefetch(self, place: Place) -> None:
        """Ask for what `load` will read there."""
        for load in self._step.loads():
            index = self._sources[load.tensor]
            buffer, arg = self._reads[index], self._read_args[index]
            if not load.views and not load.channel_offset and buffer.layout.kind != "float":
                top, left, _, _ = buffer.layout.padding
                y, x = place.y * load.stride[0] + top, place.x * load.stride[1] + left
                prefetch_channels(arg, [place.n, y, x], place.c, place.lanes)

    def load(self, load: Load, place: Place) -> Any:
        """Codes (or float values) of another tensor, as float32; outside its channels its zero."""
        index = self._sources[load.tensor]
        source = Source(
            tensors=self._tensors, buffer=self._reads[index], arg=self._read_args[index], load=load
        )
        if place.axis == "row":
            return source.row(place)
        return source.channels(place, self._channels)


class Evaluation:
    """Evaluates expressions at one place, each shared sub-expression once."""

    def __init__(self, values: Values, place: Place, acc: Any) -> None:
        self._values = values
        self._place = place
        self._acc = acc
        self._memo: dict[Expr, Any] = {}
        self._stored: dict[tuple[Expr, Grid], Any] = {}

    def real(self, expr: Expr) -> Any:
        """`expr` as a float32 vector."""
        if expr not in self._memo:
            self._memo[expr] = T.bind(self._compute(expr))
        return self._memo[expr]

    def _compute(self, expr: Expr) -> Any:
        place = self._place
        lanes = place.lanes
        if isinstance(expr, Acc):
            return T.cast(self._accumulator(), vector_type("float32", lanes))
        if isinstance(expr, Load):
            return self._values.load(expr, place)
        if isinstance(expr, Sum):
            return self.real(expr.x) + self.real(expr.y)
        if isinstance(expr, Product):
            return self.real(expr.x) * self.real(expr.y)
        if isinstance(expr, Apply):
            value = self.real(expr.x)
            return erf(value, lanes) if expr.function == "erf" else getattr(T, expr.function)(value)
        if isinstance(expr, Clip):
            return clip(self.real(expr.x), expr.low, expr.high, lanes)
        if isinstance(expr, Affine):
            return self._affine(expr)
        if expr.grid.bipolar:
            return T.Select(self.positive(expr), real(1, lanes), real(-1, lanes))
        return rounded(self._clipped(expr), expr, lanes)

    def _accumulator(self) -> Any:
        if self._acc is None:
            raise ValueError("the epilogue uses an accumulator, but the step has no anchor")
        return self._acc

    def _affine(self, expr: Affine) -> Any:
        value = self.real(expr.x)
        if not (expr.mul == 1).all():
            value = value * self._values.coefficient(expr.mul, self._place)
        if not (expr.add == 0).all():
            value = value + self._values.coefficient(expr.add, self._place)
        return value

    def _clipped(self, expr: Quant) -> Any:
        """Before rounding: the bounds are integers, so that the order does not matter, and the
        conversion to an integer cannot overflow."""
        grid = expr.grid
        return clip(self.real(expr.x), grid.low, grid.high, self._place.lanes)

    def unclipped(self, expr: Quant) -> Any:
        """What is to be rounded, where whoever rounds it clips it to the grid as well: within
        int32, but clipped only as far as the grid does not imply it."""
        grid, beneath = expr.grid, expr.x
        if isinstance(beneath, Clip) and beneath.low <= grid.low and beneath.high >= grid.high:
            beneath = beneath.x
        return self.real(beneath) if self._values.converts(beneath) else self._clipped(expr)

    def positive(self, expr: Expr) -> Any:
        """Lane-wise: does `expr`, a value on a bipolar grid, stand for +1?"""
        zero = real(0, self._place.lanes)
        if isinstance(expr, Quant) and expr.grid.bipolar:
            return self.real(expr.x) >= zero
        return self.real(expr) > zero

    def stored(self, expr: Expr, grid: Grid) -> Any:
        """int32 whose low `bits` bits are the stored value, code - storage_offset(grid)."""
        if (expr, grid) not in self._stored:
            self._stored[expr, grid] = T.bind(self._compute_stored(expr, grid))
        return self._stored[expr, grid]

    def _compute_stored(self, expr: Expr, grid: Grid) -> Any:
        lanes = self._place.lanes
        offset = storage_offset(grid)
        if grid.bipolar:
            return T.Select(self.positive(expr), integer(2, lanes), integer(0, lanes))
        if isinstance(expr, Acc):
            codes = T.cast(self._accumulator(), vector_type("int32", lanes))
            return codes - integer(offset, lanes)
        if isinstance(expr, Quant) and expr.rounding == "ROUND" and expr.grid.bits <= MAGIC_BITS:
            value = self._clipped(expr)
        else:
            value = self.real(expr)
        folded = offset if offset % 2 == 0 else 0  # an odd shift would turn ties to odd codes
        word = T.reinterpret(vector_type("int32", lanes), value + real(MAGIC - folded, lanes))
        return word if folded == offset else word - integer(offset, lanes)


def clip(value: Any, low: float, high: float, lanes: int) -> Any:
    if not isinf(low):
        value = T.max(value, real(low, lanes))
    if not isinf(high):
        value = T.min(value, real(high, lanes))
    return value


def rounded(value: Any, expr: Quant, lanes: int) -> Any:
    """`value`, already within the grid, to an integral float32."""
    if expr.rounding == "FLOOR":
        return T.floor(value)
    if expr.rounding == "CEIL":
        return T.ceil(value)
    if expr.rounding == "ROUND_TO_ZERO":
        return T.trunc(value)
    if expr.rounding != "ROUND":
        return _away_or_to_zero(value, expr, lanes)
    if expr.grid.bits > MAGIC_BITS:
        return T.nearbyint(value)
    # Not (x + MAGIC) - MAGIC: the compiler simplifies that to x.
    word = T.reinterpret(vector_type("int32", lanes), value + real(MAGIC, lanes))
    code = word - integer(MAGIC_WORD, lanes)
    return T.cast(code, vector_type("float32", lanes))


def _away_or_to_zero(value: Any, expr: Quant, lanes: int) -> Any:
    """Modes that mirror at 0: the same for a negative value, with floor and ceil exchanged."""
    zero = real(0, lanes)
    if expr.rounding == "UP":
        return T.Select(value < zero, T.floor(value), T.ceil(value))
    below, above = value - real(0.5, lanes), value + real(0.5, lanes)
    if expr.rounding == "HALF_UP":
        return T.Select(value < zero, T.ceil(below), T.floor(above))
    return T.Select(value < zero, T.floor(above), T.ceil(below))
