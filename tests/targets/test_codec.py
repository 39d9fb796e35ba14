from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpqdeploy.targets.codec import decode, encode
from mpqdeploy.targets.layout import (
    Layout,
    buffer_dtype,
    buffer_shape,
    storage_offset,
    zero_code,
)
from mpqdeploy.targets.program import Grid, Tensor

GRIDS = st.one_of(
    st.just(Grid(bits=1, signed=True, bipolar=True)),
    st.builds(Grid, bits=st.integers(1, 8), signed=st.just(False), narrow=st.booleans()).filter(
        lambda grid: grid.high > grid.low
    ),
    st.builds(Grid, bits=st.integers(2, 8), signed=st.just(True), narrow=st.booleans()),
)
PADDING = st.tuples(*[st.integers(0, 3)] * 4)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of codes with an integral zero point on its grid (0 on a bipolar one)."""
    grid = draw(GRIDS)
    shape = tuple(draw(st.integers(1, high)) for high in (2, 4, 4, 70))
    zero = 0 if grid.bipolar else draw(st.integers(grid.low, grid.high))
    point = np.array([zero], np.float32)
    return Tensor(name="t", shape=shape, grid=grid, zero_point=point)  # type: ignore[arg-type]


def codes_of(tensor: Tensor, seed: int) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    assert tensor.grid is not None
    if tensor.grid.bipolar:
        return rng.choice(np.array([-1, 1], np.int32), tensor.shape)
    low, high = tensor.grid.low, tensor.grid.high
    return rng.integers(low, high, tensor.shape, np.int32, endpoint=True)


@settings(max_examples=150, deadline=None)
@given(tensors(), st.sampled_from(["bytes", "bits"]), PADDING, st.integers(0, 999))
def test_what_is_written_is_read_back(
    tensor: Tensor, kind: str, padding: tuple[int, int, int, int], seed: int
) -> None:
    layout = Layout(kind=kind, padding=padding)  # type: ignore[arg-type]
    codes = codes_of(tensor, seed)
    buffer = encode(tensor, layout, codes)
    assert buffer.shape == buffer_shape(tensor, layout)
    assert buffer.dtype == np.dtype(buffer_dtype(layout))
    np.testing.assert_array_equal(decode(tensor, layout, buffer), codes)


@settings(max_examples=100, deadline=None)
@given(tensors(), st.integers(0, 999))
def test_borders_hold_the_zero_point(tensor: Tensor, seed: int) -> None:
    """Reading the whole padded image gives the codes inside a frame of zero points."""
    top, left, bottom, right = padding = (2, 1, 1, 3)
    batch, height, width, channels = tensor.shape
    codes = codes_of(tensor, seed)
    grown = Tensor(
        name="t",
        shape=(batch, height + top + bottom, width + left + right, channels),
        grid=tensor.grid,
    )
    assert tensor.grid is not None
    expected = np.pad(
        codes,
        ((0, 0), (top, bottom), (left, right), (0, 0)),
        constant_values=zero_code(tensor),
    )
    for kind in ("bytes", "bits"):
        if tensor.grid.bipolar and kind == "bits":
            continue  # has no zero: its border is all 0 bits, see the next test
        buffer = encode(tensor, Layout(kind=kind, padding=padding), codes)
        np.testing.assert_array_equal(decode(grown, Layout(kind=kind), buffer), expected)


def test_bipolar_bit_planes_have_a_border_of_zero_bits() -> None:
    tensor = Tensor(name="t", shape=(1, 1, 1, 40), grid=Grid(bits=1, signed=True, bipolar=True))
    buffer = encode(tensor, Layout(kind="bits", padding=(1, 1, 1, 1)), np.ones(tensor.shape))
    assert buffer.shape == (1, 3, 3, 1, 2)
    assert buffer[0, 1, 1, 0].tolist() == [0xFFFFFFFF, 0xFF]  # bits past channel 40 are 0
    buffer[0, 1, 1] = 0
    assert not buffer.any()


def test_a_bit_plane_by_hand() -> None:
    grid = Grid(bits=3, signed=True)
    tensor = Tensor(name="t", shape=(1, 1, 1, 3), grid=grid)
    codes = np.array([[[[-4, 3, 1]]]])  # stored 0, 7, 5
    assert storage_offset(grid) == -4
    buffer = encode(tensor, Layout(kind="bits"), codes)
    assert buffer.reshape(-1).tolist() == [0b110, 0b010, 0b110]


def test_reals_are_channels_last_in_whole_blocks() -> None:
    tensor = Tensor(name="shortcut", shape=(1, 2, 3, 20))
    values = np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32)
    buffer = encode(tensor, Layout(kind="reals"), values)
    assert buffer.shape == (1, 2, 3, 32)
    assert buffer.dtype == np.float32
    np.testing.assert_array_equal(decode(tensor, Layout(kind="reals"), buffer), values)


def test_float_is_nchw_and_codes_need_a_grid() -> None:
    tensor = Tensor(name="logits", shape=(1, 2, 3, 4))
    values = np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32)
    buffer = encode(tensor, Layout(kind="float"), values)
    assert buffer.shape == (1, 4, 2, 3)
    np.testing.assert_array_equal(decode(tensor, Layout(kind="float"), buffer), values)
    with pytest.raises(ValueError, match="logits holds float values"):
        encode(tensor, Layout(kind="bytes"), values)
