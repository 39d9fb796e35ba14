"""Codes that the epilogue packs several vectors at a time (AVX-512)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.bounds import magnitude
from mpqdeploy.targets.kernels.epilogue.bits import reaches
from mpqdeploy.targets.kernels.epilogue.leading import beneath, leads
from mpqdeploy.targets.kernels.epilogue.lookup_bytes import Table
from mpqdeploy.targets.kernels.epilogue.staircase import Staircase
from mpqdeploy.targets.kernels.epilogue.thresholds import Thresholds
from mpqdeploy.targets.layout import Layout, storage_offset, stored_channels
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    Grid,
    Load,
    Output,
    Pool,
    Product,
    Quant,
    Step,
    Sum,
    Tensor,
)
from tests.targets.kernels.convolutions import convolution
from tests.targets.kernels.epilogues import EpilogueKernel
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import BIPOLAR

PADDING = (1, 2, 1, 0)
CODES = Grid(bits=6, signed=True)
GRIDS = st.builds(Grid, bits=st.integers(1, 8), signed=st.booleans(), narrow=st.booleans()).filter(
    lambda grid: grid.bits > 1 or not (grid.signed or grid.narrow)
)


@dataclass(frozen=True)
class Together(EpilogueKernel):
    """Runs of pixels and all their channels together."""

    pixels: int
    tables: bool = False

    def lanes_on(self, isa: Isa) -> int:
        return isa.lanes

    def store_all(self, epilogue: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, width, channels = epilogue.shape
        with (
            T.serial(0, batch) as n,
            T.serial(0, height) as y,
            T.serial(0, width // self.pixels) as x,
            epilogue.together(),
        ):
            for pixel in range(self.pixels):
                for c0 in range(0, stored_channels(channels), epilogue.lanes):
                    epilogue.store(None, n, y, x * self.pixels + pixel, c0)


def case(channels: int, values: Sequence[Quant]) -> Case:
    """Codes of 6 bits to every value on its grid, in several layouts."""
    shape = (2, 2, 4, channels)
    kinds = (
        Layout(kind="bytes", padding=PADDING),
        Layout(kind="float"),
        Layout(kind="bytes"),
        Layout(kind="bits", padding=PADDING),
    )
    names = [f"out{number}" for number in range(len(values))]
    outputs = {
        name: Tensor(name=name, shape=shape, grid=value.grid)
        for name, value in zip(names, values, strict=True)
    }
    return Case(
        step=Step(
            name="step",
            anchor=None,
            outputs=tuple(Output(tensor=n, value=v) for n, v in zip(names, values, strict=True)),
        ),
        tensors={"a": Tensor(name="a", shape=shape, grid=CODES), **outputs},
        layouts={"a": (Layout(kind="bytes"),), **dict.fromkeys(names, kinds)},
    )


def halves(channels: int, mul: float = 0.5) -> Affine:
    """Multiples of 1/2, so that ties are among them, a different one in every channel."""
    add = (np.arange(channels) % 5).astype(np.float32) / 2
    return Affine(x=Load(tensor="a"), mul=np.float32([mul]), add=add)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([5, 16, 17, 33, 48, 64, 100]),
    pixels=st.sampled_from([1, 2, 4]),
    grids=st.lists(GRIDS, min_size=1, max_size=2),
    mul=st.sampled_from([0.5, -0.5, 8.0]),
    clip=st.sampled_from([None, (0.0, np.inf), (-3.0, 6.0), (1.5, 2.5), (-np.inf, 100.0)]),
)
def test_every_grid_and_run_of_vectors(
    isa: Isa,
    channels: int,
    pixels: int,
    grids: list[Grid],
    mul: float,
    clip: tuple[float, float] | None,
) -> None:
    require(isa)
    value: Expr = halves(channels, mul)
    if clip is not None:
        value = Clip(x=value, low=clip[0], high=clip[1])
    made = case(channels, [Quant(x=value, grid=grid) for grid in grids])
    assert check(Together(pixels), made, isa, exact=True) == 0


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("mul", [3e7, -3e7, 1e30])
def test_values_beyond_int32_are_clipped_before_they_are_converted(
    signed: bool, mul: float
) -> None:
    """The conversion itself would turn them into the least int32, whatever their sign."""
    require(Isa.VNNI)
    value = Quant(x=halves(64, mul), grid=Grid(bits=8, signed=signed))
    assert check(Together(4), case(64, [value]), Isa.VNNI, exact=True) == 0


def test_other_roundings_are_stored_one_by_one() -> None:
    require(Isa.VNNI)
    rounded = [
        Quant(x=halves(40), grid=Grid(bits=4, signed=True), rounding=rounding)
        for rounding in ("FLOOR", "ROUND")
    ]
    assert check(Together(2), case(40, rounded), Isa.VNNI, exact=True) == 0


def test_magnitude_bounds_what_an_expression_can_be() -> None:
    made = convolution(image=(1, 3, 3, 4), out=4)
    tensors = {**made.tensors, "a": Tensor(name="a", shape=(1, 3, 3, 4), grid=CODES)}
    load = Load(tensor="a")
    half = Affine(x=load, mul=np.float32([0.25, -0.5]), add=np.float32([-7.0, 3.0]))
    for expr, bound in (
        (load, 32.0),
        (half, 23.0),
        (Sum(x=load, y=load), 64.0),
        (Product(x=load, y=load), 1024.0),
        (Clip(x=half, low=-3.0, high=6.0), 6.0),
        (Clip(x=load, low=0.0, high=np.inf), 32.0),
        (Quant(x=half, grid=Grid(bits=8, signed=True)), 128.0),
        (Apply(x=load, function="exp"), np.inf),
    ):
        assert magnitude(expr, made.step, tensors) == bound
    assert magnitude(Acc(), replace(made.step, anchor=None), tensors) == np.inf
    floats = {"a": replace(tensors["a"], grid=None)}
    assert magnitude(load, made.step, floats) == np.inf


@pytest.mark.parametrize("anchor", ["conv", "max", "sum"])
@pytest.mark.parametrize("zero", [0.0, 3.0, -40.0])
def test_magnitude_of_sums_is_what_the_furthest_codes_give(anchor: str, zero: float) -> None:
    """All codes at one end of the grid, weights of one sign: no sum can be larger."""
    made = convolution(image=(1, 5, 5, 4), out=4)
    conv = made.step.anchor
    assert isinstance(conv, Conv)
    weights = np.abs(conv.weights)
    anchors = {
        "conv": replace(conv, weights=weights),
        "max": Pool(input=conv.input, kind="max", kernel=(2, 3), stride=(1, 1)),
        "sum": Pool(input=conv.input, kind="sum", kernel=(2, 3), stride=(1, 1)),
    }
    source = replace(made.tensors[conv.input], grid=CODES, zero_point=np.float32([zero]))
    tensors = {**made.tensors, source.name: source}
    largest = {
        "conv": int(weights.reshape(len(weights), -1).sum(axis=1).max()),
        "sum": 6,
    }
    reached = max(abs(code - zero) for code in (CODES.low, CODES.high)) * largest.get(anchor, 1)
    step = replace(made.step, anchor=anchors[anchor])
    assert magnitude(Acc(), step, tensors) == (32.0 if anchor == "max" else reached)


def narrowed(first: Quant, grid: Grid, mul: float, add: float = 0.0) -> Quant:
    """A function of another output's code: what the next layer reads of a residual stream."""
    scaled = Affine(x=first, mul=np.float32([mul]), add=np.float32([add]))
    return Quant(x=scaled, grid=grid)


STREAMS = (Grid(bits=8, signed=False), Grid(bits=8, signed=True), Grid(bits=5, signed=True))
MULS = (0.0588, 0.0123, 0.31, 0.77, 0.25)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    stream=st.sampled_from(STREAMS),
    grid=GRIDS,
    mul=st.floats(0.004, 0.99),
    add=st.sampled_from([0.0, 1.3, -2.5]),
)
def test_a_staircase_is_exact_or_there_is_none(
    stream: Grid, grid: Grid, mul: float, add: float
) -> None:
    first = Quant(x=halves(16), grid=stream)
    second = narrowed(first, grid, mul, add)
    staircase = leads(second, first.grid)
    codes = np.arange(stream.low, stream.high + 1)
    real = codes.astype(np.float32) * np.float32(mul) + np.float32(add)
    wanted = np.clip(np.rint(real), grid.low, grid.high).astype(np.int64) - storage_offset(grid)
    if staircase is not None:
        np.testing.assert_array_equal(staircase(codes - storage_offset(stream)), wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    stream=st.sampled_from(STREAMS),
    grid=GRIDS,
    mul=st.floats(-0.99, 0.99).filter(bool),
    add=st.sampled_from([0.0, 1.3, -2.5, 40.0]),
)
def test_a_table_is_exact(stream: Grid, grid: Grid, mul: float, add: float) -> None:
    """Where a CPU looks bytes up, every code of a code has a way."""
    first = Quant(x=halves(16), grid=stream)
    way = leads(narrowed(first, grid, mul, add), first.grid, tables=True)
    codes = np.arange(stream.low, stream.high + 1)
    real = codes.astype(np.float32) * np.float32(mul) + np.float32(add)
    wanted = np.clip(np.rint(real), grid.low, grid.high).astype(np.int64) - storage_offset(grid)
    assert way is not None
    np.testing.assert_array_equal(way(codes - storage_offset(stream)), wanted)


def test_few_values_are_counted_by_thresholds() -> None:
    first = Quant(x=halves(16), grid=STREAMS[0])
    for bits, count in ((1, 1), (2, 3)):
        way = leads(narrowed(first, Grid(bits=bits, signed=False), 0.0123), first.grid)
        assert isinstance(way, Thresholds)
        assert len(way.thresholds) == count


def test_one_lookup_is_preferred_to_a_staircase_and_two_are_not() -> None:
    """4 bits of which 8 bits take 240 codes, and 120."""
    first, grid = Quant(x=halves(16), grid=STREAMS[0]), Grid(bits=4, signed=False)
    for slope, kind in ((0.0588, Staircase), (0.12, Table)):
        assert isinstance(leads(narrowed(first, grid, slope), first.grid), Staircase)
        assert isinstance(leads(narrowed(first, grid, slope), first.grid, tables=True), kind)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_usual_scales_have_a_staircase(bits: int) -> None:
    """Learned scales are no dyadic fractions: of a hundred, nearly all can be climbed."""
    rng, first = np.random.default_rng(bits), Quant(x=halves(16), grid=STREAMS[0])
    grid = Grid(bits=bits, signed=False)
    scales = (2**bits - 1) / 255 * rng.uniform(1.0, 3.0, 100)
    found = [leads(narrowed(first, grid, float(scale)), first.grid) for scale in scales]
    assert sum(staircase is not None for staircase in found) >= 95


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    stream=st.sampled_from(STREAMS),
    grid=st.sampled_from([BIPOLAR, Grid(bits=1, signed=False), Grid(bits=2, signed=False)]),
    mul=st.floats(-0.99, 0.99).filter(bool),
    add=st.sampled_from([0.0, 1.3, -2.5, 40.0]),
)
def test_a_threshold_is_exact_or_there_is_none(
    stream: Grid, grid: Grid, mul: float, add: float
) -> None:
    first = Quant(x=halves(16), grid=stream)
    least = reaches(narrowed(first, grid, mul, add), first.grid)
    codes = np.arange(stream.low, stream.high + 1)
    real = codes.astype(np.float32) * np.float32(mul) + np.float32(add)
    bits = real >= 0 if grid.bipolar else np.rint(real) >= 1
    if grid.bits > 1 or (mul < 0 and bits.any() and not bits.all()) or not bits.any():
        assert least is None
    else:
        assert least is not None
        np.testing.assert_array_equal(codes - storage_offset(stream) >= least, bits)


def test_channels_with_thresholds_of_their_own_have_none() -> None:
    first = Quant(x=halves(16), grid=STREAMS[0])
    add = np.arange(16, dtype=np.float32)
    by_channel = Affine(x=first, mul=np.float32([0.5]), add=-add)
    assert reaches(Quant(x=by_channel, grid=BIPOLAR), first.grid) is None


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([16, 33, 48, 64, 100]),
    pixels=st.sampled_from([1, 2, 4]),
    stream=st.sampled_from(STREAMS),
    grids=st.lists(st.one_of(st.just(BIPOLAR), GRIDS), min_size=1, max_size=2),
    mul=st.sampled_from(MULS),
    order=st.booleans(),
    written=st.booleans(),
)
def test_codes_that_follow_from_others(
    channels: int,
    pixels: int,
    stream: Grid,
    grids: list[Grid],
    mul: float,
    order: bool,
    written: bool,
) -> None:
    require(Isa.VNNI)
    first = Quant(x=halves(channels, 4.0), grid=stream)
    values = [*([first] if written else []), *(narrowed(first, grid, mul) for grid in grids)]
    made = case(channels, values if order else values[::-1])
    assert check(Together(pixels), made, Isa.VNNI, exact=True) == 0


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    stream=st.sampled_from(STREAMS),
    grids=st.lists(GRIDS.filter(lambda grid: grid.bits > 2), min_size=1, max_size=2),
    mul=st.sampled_from((*MULS, -0.0588)),
    written=st.booleans(),
)
def test_codes_that_are_looked_up(
    stream: Grid, grids: list[Grid], mul: float, written: bool
) -> None:
    """Falling codes, too, for which there is no staircase."""
    kernel = Together(2, tables=True)
    require(Isa.VNNI, kernel)
    first = Quant(x=halves(48, 4.0), grid=stream)
    values = [*([first] if written else []), *(narrowed(first, grid, mul) for grid in grids)]
    assert check(kernel, case(48, values), Isa.VNNI, exact=True) == 0


def test_what_is_no_function_of_the_code_alone_leads_nowhere() -> None:
    first = Quant(x=halves(16), grid=STREAMS[0])
    grid = Grid(bits=4, signed=False)
    add = np.arange(16, dtype=np.float32)
    by_channel = Affine(x=first, mul=np.full(16, 0.06, np.float32), add=add)
    both = Sum(x=first, y=Load(tensor="a"))
    assert leads(Quant(x=by_channel, grid=grid), first.grid) is None
    assert beneath(Quant(x=both, grid=grid)) is None
    assert beneath(first) is None
    assert beneath(Quant(x=Clip(x=by_channel, low=0.0, high=3.0), grid=grid)) is first
    assert leads(narrowed(first, grid, -0.06), first.grid) is None
    assert leads(replace(narrowed(first, grid, 0.06), rounding="FLOOR"), first.grid) is None
    assert leads(narrowed(first, grid, 0.0588), first.grid) is not None
    # 25 and 75 lie on ties, one to be rounded up and one down: no offset does both.
    assert leads(narrowed(first, grid, 0.06), first.grid) is None
