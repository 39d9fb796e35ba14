"""The integer program: what a QONNX graph becomes before it becomes machine code.

A `Program` is a list of `Step`s over `Tensor`s of integer codes. A step is one *anchor* (an exact
integer convolution or pooling, or nothing) and an *epilogue*: elementwise expressions in float32
over the anchor's accumulator, ending in one or more outputs. One step becomes one kernel.
Where a graph has no codes to compute with, an anchor over float32 tensors stands in (`FloatConv`,
`Softmax`, `Normalization`, `MatMul`, a `Pool` of floats), and the step says why in `fallback`.

Objects that hold arrays or expressions compare by identity (`eq=False`): a sub-expression that two
outputs share is one object, and is evaluated once.

Layout is not decided here: every tensor has the logical shape `[N, H, W, C]`; a tensor of a fully
connected layer has H = W = 1, and the weights of a layer behind a Flatten are already permuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.views import Reindex, View

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
# ROUND: ties to even. UP: away from zero. HALF_UP, HALF_DOWN: to nearest, ties from zero, to zero.
Rounding = Literal["ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO", "UP", "HALF_UP", "HALF_DOWN"]
Function = Literal["sigmoid", "tanh", "erf", "exp", "log", "sqrt"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers that a code may be: `bits` wide, or exactly {-1, +1} where `bipolar`."""

    bits: int
    signed: bool
    narrow: bool = False
    bipolar: bool = False

    @property
    def low(self) -> int:
        if self.bipolar:
            return -1
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + int(self.narrow)

    @property
    def high(self) -> int:
        if self.bipolar:
            return 1
        return (1 << (self.bits - int(self.signed))) - 1 - int(self.narrow and not self.signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor between steps, logical shape `[N, H, W, C]`.

    `grid` is None for float32, and `layout.SHORT` for sums that a later step scales. Otherwise real
    value = `scale` * (code - `zero_point`); both are shape `[1]` or `[C]`, and padding (see
    `Conv.padding`) stands for the code `zero_point`. `shows`: the ONNX tensor whose elements it
    has, and the view through which, where it goes by another name.
    """

    name: str
    shape: tuple[int, int, int, int]
    grid: Grid | None = None
    scale: Floats = field(default_factory=lambda: np.ones(1, np.float32))
    zero_point: Floats = field(default_factory=lambda: np.zeros(1, np.float32))
    shows: tuple[str, Reindex] | None = None


# --- anchors ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """acc[n,y,x,o] = sum over taps of (code - zero_point) * weight, exact.

    `weights`: integer codes, shape `[O, KH, KW, I/groups]`, on `weight_grid`; the weights' scale is
    in the epilogue. `padding` is (top, left, bottom, right), and a padded tap counts 0.
    A fully connected layer is a convolution whose kernel covers its input.

    `pool`: the epilogue is that of the maxima of these sums; its input is a tensor of the sums'
    shape that is never stored (`passes/pooling.py`).
    """

    input: str
    weights: Ints
    weight_grid: Grid
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: Pool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatConv:
    """acc[n,y,x,o] = sum over taps of value * weight in float32, over a tensor without a grid.

    `weights`: shape `[O, KH, KW, I/groups]`; else as `Conv`.
    """

    input: str
    weights: Floats
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax:
    """exp(x - m) / sum of exp(x - m) over the channels of a pixel, m their maximum: float32."""

    input: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalization:
    """(x - mean) / sqrt(variance + epsilon), both over the channels of a pixel: float32."""

    input: str
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul:
    """Products of `count` pairs of matrices, all that an image has, in float32.

    `input`: `[N, 1, count * M, K]`, `right`: `[N, 1, count * K, L]`, in each matrix below matrix;
    acc[n, 0, i*M + m, l] = sum over k of input[n, 0, i*M + m, k] * right[n, 0, i*K + k, l].
    """

    input: str
    right: str
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """acc = `values`, `[N, H, W, C]`: a constant that is not the same for all pixels."""

    values: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Maximum of codes, or sum of (code - zero_point) over a window, exact in int32.

    A maximum ignores padded taps; a sum counts them as 0. The divisor of an average is in the
    epilogue, but for a "mean": the sum divided by the number of taps that are not padded, float32.
    Of a tensor without a grid all three are float32.
    """

    input: str
    kind: Literal["max", "sum", "mean"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


Anchor = Conv | FloatConv | Pool | Softmax | Normalization | MatMul | Given


def operands_of(anchor: Anchor | None) -> tuple[str, ...]:
    """The names of the tensors that an anchor reads."""
    if anchor is None or isinstance(anchor, Given):
        return ()
    return (anchor.input, anchor.right) if isinstance(anchor, MatMul) else (anchor.input,)


# --- epilogue expressions (float32, one value per output element) ------------------------------


@dataclass(frozen=True, kw_only=True)
class Acc:
    """The anchor's accumulator."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """An element of another tensor: its code (or float value) at [n, y*stride, x*stride, c-offset].

    Channels outside that tensor read as its zero point: ResNet's parameter-free shortcut (a strided
    slice and zero channels) is a `Load`. `views` lead to that place, the first from the element
    that is computed; where one of them leaves its source, the zero point is read too.
    """

    tensor: str
    stride: tuple[int, int] = (1, 1)
    channel_offset: int = 0
    views: tuple[View, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """mul * x + add, both shape `[1]` or `[C]`."""

    x: Expr
    mul: Floats
    add: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Sum:
    """x + y."""

    x: Expr
    y: Expr


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """x * y."""

    x: Expr
    y: Expr


@dataclass(frozen=True, kw_only=True, eq=False)
class Apply:
    """A function of x, within a few ulps of float32."""

    x: Expr
    function: Function


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """min(max(x, low), high), bounds may be infinite: ReLU is Clip(0, inf)."""

    x: Expr
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Quant:
    """The code clip(round(x)) on `grid`, as a float32 integer; `x` is already x/scale + zero point.

    On a bipolar grid: +1 where x >= 0, else -1.
    """

    x: Expr
    grid: Grid
    rounding: Rounding = "ROUND"


Expr = Acc | Load | Affine | Sum | Product | Apply | Clip | Quant


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """Writes `value` to `tensor`: codes where that tensor has a grid, else float32."""

    tensor: str
    value: Expr


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One kernel to be: an anchor (None: elementwise) and what it writes.

    `sources` are the names of the ONNX nodes that the step stands for, for reports and errors;
    `fallback` says what of it is computed in float32 that integers could not, and why.
    """

    name: str
    anchor: Anchor | None
    outputs: tuple[Output, ...]
    sources: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()

    def loads(self) -> Iterator[Load]:
        """Every distinct `Load` of the epilogue, in first-use order."""
        seen: dict[Load, None] = {}
        for output in self.outputs:
            for expr in walk(output.value):
                if isinstance(expr, Load):
                    seen.setdefault(expr)
        return iter(seen)

    def reads(self) -> tuple[str, ...]:
        """Names of the tensors that this step reads, the anchor's first, each once."""
        loaded = (load.tensor for load in self.loads())
        return tuple(dict.fromkeys([*operands_of(self.anchor), *loaded]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Port:
    """A model input or output as the user sees it: ONNX name and shape (NCHW or NC), float32."""

    name: str
    tensor: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """Steps in execution order. Inputs and outputs are float32 tensors."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: Mapping[str, Tensor]
    steps: tuple[Step, ...]

    def consumers(self, tensor: str) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if tensor in step.reads())


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything below it, operands first."""
    for operand in operands(expr):
        yield from walk(operand)
    yield expr


def operands(expr: Expr) -> tuple[Expr, ...]:
    """The expressions that `expr` is computed from."""
    if isinstance(expr, Sum | Product):
        return expr.x, expr.y
    return (expr.x,) if isinstance(expr, Affine | Apply | Clip | Quant) else ()
