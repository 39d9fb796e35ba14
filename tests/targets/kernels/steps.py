"""Random steps for kernel tests, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Affine, Expr, Grid, Quant, Tensor

CHANNELS = (1, 3, 4, 10, 16, 17, 33, 100)
BIPOLAR = Grid(bits=1, signed=True, bipolar=True)

grids = st.one_of(
    st.just(BIPOLAR),
    st.builds(Grid, bits=st.integers(1, 8), signed=st.just(False)),
    st.builds(Grid, bits=st.integers(2, 8), signed=st.just(True), narrow=st.booleans()),
)
paddings = st.tuples(*[st.integers(0, 2)] * 4)
rounding_modes = st.sampled_from(("ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO"))


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
    """What a written tensor may have to be written as: up to all three layouts."""
    if tensor.grid is None:
        return (Layout(kind="float"),)
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
