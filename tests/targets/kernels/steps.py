"""Random steps for kernel tests, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Anchor,
    Conv,
    Expr,
    FloatConv,
    Grid,
    Load,
    Output,
    Pool,
    Quant,
    Step,
    Sum,
    Tensor,
)
from tests.targets.kernels.harness import Case, random_grid

CHANNELS = (1, 3, 4, 10, 16, 17, 33, 100)
BIPOLAR = Grid(bits=1, signed=True, bipolar=True)

grids = st.one_of(
    st.just(BIPOLAR),
    st.builds(Grid, bits=st.integers(1, 8), signed=st.just(False)),
    st.builds(Grid, bits=st.integers(2, 8), signed=st.just(True), narrow=st.booleans()),
)
ZERO = np.zeros(1, np.float32)

paddings = st.tuples(*[st.integers(0, 2)] * 4)
rounding_modes = st.sampled_from(
    ("ROUND", "ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO", "UP", "HALF_UP", "HALF_DOWN")
)


@st.composite
def tensors_on(draw: Any, name: str, shape: tuple[int, int, int, int], zero: bool = True) -> Tensor:
    """A tensor of codes with a zero point inside its grid, 0 where `zero` is False."""
    grid = draw(grids)
    point = 0
    if zero and not grid.bipolar and draw(st.booleans()):
        point = draw(st.integers(grid.low, grid.high))
    return Tensor(name=name, shape=shape, grid=grid, zero_point=np.array([point], np.float32))


@st.composite
def layouts_of(draw: Any, tensor: Tensor) -> tuple[Layout, ...]:
    """What a written tensor may have to be written as: up to all layouts that it can have."""
    if tensor.grid is None:
        reals = draw(st.sets(st.sampled_from(("reals", "float")), min_size=1))
        return tuple(Layout(kind=kind) for kind in sorted(reals))
    kinds = draw(st.sets(st.sampled_from(("bytes", "bits", "float")), min_size=1))
    return tuple(
        Layout(kind=kind, padding=(0, 0, 0, 0) if kind == "float" else draw(paddings))
        for kind in sorted(kinds)
    )


def vector(draw: Any, channels: int, low: float, high: float) -> Any:
    """A float32 constant of shape `[1]` or `[channels]`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = draw(st.sampled_from((1, channels)))
    return rng.uniform(low, high, size).astype(np.float32)


def requantized(draw: Any, x: Expr, spread: float, tensor: Tensor) -> Expr:
    """`x`, of about `spread` in size, scaled onto the tensor's grid (or left float)."""
    channels = tensor.shape[3]
    grid = tensor.grid
    reach = 1.0 if grid is None else max(abs(grid.low), grid.high)
    mul = vector(draw, channels, -1, 2) * np.float32(reach / spread)
    value = Affine(x=x, mul=mul, add=vector(draw, channels, -1, 1))
    return value if grid is None else Quant(x=value, grid=grid, rounding=draw(rounding_modes))


def windows(
    draw: Any, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Stride, output size, input size and padding that fit together; the input may be larger than
    the windows reach."""
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 9)))
    reach = [(size[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    before = [draw(st.integers(0, min(2, kernel[i] - 1))) for i in range(2)]
    after = [draw(st.integers(0, min(2, kernel[i] - 1))) for i in range(2)]
    inner = [max(1, reach[i] - before[i] - after[i] + draw(st.integers(0, 1))) for i in range(2)]
    return stride, size, (inner[0], inner[1]), (before[0], before[1], after[0], after[1])


@st.composite
def convolutions(
    draw: Any, *, grouped: bool = True, depthwise: bool = False, floats: bool = False
) -> Case:
    """A convolution of random geometry, widths and groups (or of `floats`) with one or two
    requantized outputs, the first perhaps behind the sum with another tensor."""
    if depthwise:
        groups, each, depth = draw(st.sampled_from(CHANNELS)), 1, 1
    elif grouped and draw(st.booleans()):
        groups = draw(st.integers(2, 9))
        each, depth = draw(st.integers(1, 18)), draw(st.integers(1, 5))
    else:
        groups, each, depth = 1, draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(CHANNELS))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.sampled_from(((1, 1), (1, 1), (2, 1), (2, 3))))
    stride, size, inner, padding = windows(draw, kernel, dilation)
    batch = draw(st.integers(1, 2))
    shape = (groups * each, *kernel, depth)
    if floats:
        anchor = FloatConv(
            input="source",
            weights=np.random.default_rng(draw(st.integers(0, 2**31)))
            .normal(size=shape)
            .astype(np.float32),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        source = Tensor(name="source", shape=(batch, *inner, groups * depth))
        spread = (kernel[0] * kernel[1] * depth) ** 0.5
        return step_case(draw, (source,), anchor, (batch, *size, groups * each), spread)
    source = draw(tensors_on("source", (batch, *inner, groups * depth)))
    grid = draw(grids)
    conv = Conv(
        input="source",
        weights=random_grid(grid, shape, np.random.default_rng(draw(st.integers(0, 2**31)))),
        weight_grid=grid,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    assert source.grid is not None
    largest = max(abs(source.grid.low), source.grid.high) * max(abs(grid.low), grid.high)
    spread = largest * (kernel[0] * kernel[1] * depth) ** 0.5
    return step_case(draw, (source,), conv, (batch, *size, groups * each), spread)


def fits(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    inner: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> bool:
    """Whether every window has a pixel of the image."""
    return all(
        padding[i] < kernel[i] and (size[i] - 1) * stride[i] - padding[i] < inner[i]
        for i in range(2)
    )


@st.composite
def pools(draw: Any, *, floats: bool = False) -> Case:
    """A pooling of random geometry, over codes or `floats`."""
    kernel = draw(st.sampled_from(((1, 1), (2, 2), (3, 3), (1, 3), (5, 5), (2, 9))))
    stride, size, inner, padding = windows(draw, kernel, (1, 1))
    batch, channels = draw(st.integers(1, 2)), draw(st.sampled_from(CHANNELS))
    shape = (batch, *inner, channels)
    source = Tensor(name="source", shape=shape) if floats else draw(tensors_on("source", shape))
    means = ("mean",) if fits(kernel, stride, size, inner, padding) else ()
    kind = draw(st.sampled_from(("max", "sum", *means)))
    pool = Pool(input="source", kind=kind, kernel=kernel, stride=stride, padding=padding)
    spread = 64.0 * kernel[0] * kernel[1] if kind == "sum" else 128.0
    if floats:
        spread /= 64.0
    return step_case(draw, (source,), pool, (batch, *size, channels), spread)


def step_case(
    draw: Any,
    sources: tuple[Tensor, ...],
    anchor: Anchor,
    shape: tuple[int, int, int, int],
    spread: float,
) -> Case:
    """The anchor with an epilogue. Layouts are those of `sources` with more padding than needed,
    and any of each output."""
    tensors = {source.name: source for source in sources}
    layouts = {}
    value: Expr = Acc()
    if draw(st.booleans()):
        other = draw(
            st.one_of(tensors_on("other", shape), st.just(Tensor(name="other", shape=shape)))
        )
        tensors["other"] = other
        layouts["other"] = (
            Layout(kind="reals")
            if other.grid is None
            else Layout(kind="bytes", padding=draw(paddings)),
        )
        scaled = Affine(x=Load(tensor="other"), mul=vector(draw, shape[3], 0, 1), add=ZERO)
        value = Sum(x=value, y=scaled)
    outputs = []
    for index in range(draw(st.integers(1, 2))):
        name = f"out{index}"
        out = draw(st.one_of(tensors_on(name, shape), st.just(Tensor(name=name, shape=shape))))
        tensors[name] = out
        layouts[name] = draw(layouts_of(out))
        outputs.append(Output(tensor=name, value=requantized(draw, value, spread, out)))
    step = Step(name="step", anchor=anchor, outputs=tuple(outputs))
    if all(source.grid is None for source in sources):
        layouts.update({source.name: (Layout(kind="float"),) for source in sources})
        return Case(step=step, tensors=tensors, layouts=layouts)
    (source,) = sources
    assert isinstance(anchor, Conv | Pool)
    extra = draw(paddings)
    reach = needed(anchor, source, shape)
    padding = (reach[0] + extra[0], reach[1] + extra[1], reach[2] + extra[2], reach[3] + extra[3])
    layouts["source"] = (
        Layout(kind="bytes", padding=padding),
        Layout(kind="bits", padding=padding),
    )
    return Case(step=step, tensors=tensors, layouts=layouts)


def needed(
    anchor: Conv | Pool, source: Tensor, shape: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding that covers every tap."""
    kernel = anchor.weights.shape[1:3] if isinstance(anchor, Conv) else anchor.kernel
    dilation = anchor.dilation if isinstance(anchor, Conv) else (1, 1)
    after = []
    for i in range(2):
        reach = (shape[1 + i] - 1) * anchor.stride[i] + (kernel[i] - 1) * dilation[i] + 1
        after.append(max(0, reach - anchor.padding[i] - source.shape[1 + i], anchor.padding[2 + i]))
    return anchor.padding[0], anchor.padding[1], after[0], after[1]
