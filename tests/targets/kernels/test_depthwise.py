"""The depthwise convolution against the oracle, on every instruction-set level."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.depthwise import Depthwise, order_of
from mpqdeploy.targets.kernels.depthwise_micro import exact_run
from mpqdeploy.targets.kernels.quads import QUADS, Order
from mpqdeploy.targets.layout import Layout, stored_channels
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Conv,
    Grid,
    Load,
    Output,
    Quant,
    Step,
    Sum,
    Tensor,
)
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import convolutions


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=convolutions(depthwise=True))
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Depthwise().matches(case.step, case.tensors, isa)
    check(Depthwise(), case, isa)


PADDING = (2, 2, 2, 2)


def packing(
    channels: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    size: tuple[int, int] = (6, 9),
    weight_bits: int = 8,
    codes: tuple[Grid, ...] = (Grid(bits=8, signed=False),),
    kind: Literal["bytes", "bits"] = "bytes",
) -> Case:
    """Outputs that can be packed, each but the first a function of the one before it."""
    rng = np.random.default_rng(channels)
    grid, source = Grid(bits=weight_bits, signed=True), Grid(bits=8, signed=False)
    shape, inner = (
        (2, *size, channels),
        [(size[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - 4 for i in range(2)],
    )
    spread = 255 * 2 ** (weight_bits - 1) * (kernel[0] * kernel[1]) ** 0.5 / 3
    mul = (rng.uniform(60, 200, channels) / spread).astype(np.float32)
    value = Quant(
        x=Affine(x=Acc(), mul=mul, add=rng.normal(40, 30, channels).astype(np.float32)),
        grid=codes[0],
    )
    values = [value]
    for grid_of_next in codes[1:]:
        scaled = Affine(x=values[-1], mul=np.float32([0.0712]), add=np.float32([0.0]))
        values.append(Quant(x=scaled, grid=grid_of_next))
    names = [f"out{number}" for number in range(len(values))]
    conv = Conv(
        input="source",
        weights=rng.integers(grid.low, grid.high + 1, (channels, *kernel, 1)).astype(np.int32),
        weight_grid=grid,
        stride=stride,
        dilation=dilation,
        padding=PADDING,
        groups=channels,
    )
    tensors = {"source": Tensor(name="source", shape=(2, *inner, channels), grid=source)}
    tensors |= {
        n: Tensor(name=n, shape=shape, grid=v.grid) for n, v in zip(names, values, strict=True)
    }
    return Case(
        step=Step(
            name="step",
            anchor=conv,
            outputs=tuple(Output(tensor=n, value=v) for n, v in zip(names, values, strict=True)),
        ),
        tensors=tensors,
        layouts={
            "source": (Layout(kind="bytes", padding=PADDING),),
            **dict.fromkeys(names, (Layout(kind=kind, padding=(1, 0, 2, 1)),)),
        },
    )


def in_order(case: Case) -> Order | None:
    return order_of(case.step, case.tensors, case.layouts, Isa.VNNI)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([32, 33, 64, 96, 100, 112, 128, 144]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    dilation=st.sampled_from([(1, 1), (2, 2)]),
    width=st.integers(4, 9),
    columns=st.sampled_from([2, 4, 7, 8]),
    weight_bits=st.sampled_from([1, 2, 3, 4, 8]),
    second=st.sampled_from([(), (Grid(bits=4, signed=False),)]),
    signed=st.booleans(),
)
def test_64_channels_at_a_time(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    width: int,
    columns: int,
    weight_bits: int,
    second: tuple[Grid, ...],
    signed: bool,
) -> None:
    require(Isa.VNNI)
    codes = (Grid(bits=8, signed=signed), *second)
    case = packing(channels, kernel, stride, dilation, (6, width + 4), weight_bits, codes)
    assert in_order(case) == Order(stored_channels(channels))
    check(Depthwise(), case, Isa.VNNI, schedule={"columns": columns})


@pytest.mark.parametrize(
    ("channels", "bits", "stream"),
    [(32, 4, True), (64, 1, True), (64, 2, False), (96, 2, True), (112, 4, False)],
)
def test_64_channels_at_a_time_to_bits(channels: int, bits: int, stream: bool) -> None:
    """Codes of sums, or codes of 8-bit codes, as the planes that a count of bits reads."""
    require(Isa.VNNI)
    narrow = Grid(bits=bits, signed=False)
    codes = (Grid(bits=8, signed=False), narrow) if stream else (narrow,)
    case = packing(channels, codes=codes, kind="bits")
    assert in_order(case) is not None
    check(Depthwise(), case, Isa.VNNI)


def test_channels_go_one_by_one_where_not_all_is_packed() -> None:
    case = packing(64)
    assert in_order(packing(100, kind="bits")) is None  # bits past the last channel must be 0
    assert in_order(case) is not None
    assert in_order(packing(16)) is None
    floats = {**case.layouts, "out0": (Layout(kind="float"),)}
    assert in_order(replace(case, layouts=floats)) is None
    output = case.step.outputs[0]
    assert isinstance(output.value, Quant)
    summed = replace(output.value, x=Sum(x=output.value.x, y=Load(tensor="source")))
    loading = replace(case.step, outputs=(replace(output, value=summed),))
    assert in_order(replace(case, step=loading)) is None
    rounded = replace(
        case.step, outputs=(replace(output, value=replace(output.value, rounding="UP")),)
    )
    assert in_order(replace(case, step=rounded)) is None


@pytest.mark.parametrize("channels", [16, 32, 48, 64, 80, 96, 112, 128, 144, 160])
def test_every_channel_has_its_positions(channels: int) -> None:
    order = Order(channels)
    assert sorted(order.positions[:channels]) == list(range(channels))
    assert sorted(QUADS) == list(range(64))
    last = np.arange(order.whole, order.whole + order.paired)
    assert sorted(order.positions[channels:]) == sorted([*last, *last])


@pytest.mark.parametrize(("bits", "largest"), [(4, 15), (4, 255), (8, 15), (8, 255), (2, 255)])
def test_runs_hold_the_largest_sums_in_16_bits(bits: int, largest: int) -> None:
    grid = Grid(bits=bits, signed=True)
    run = exact_run(largest, grid)
    assert run * largest * -grid.low < 2**15 <= (run + 1) * largest * -grid.low


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize("act_bits", [2, 4, 8])
def test_is_exact_on_extreme_codes(isa: Isa, weight_bits: int, act_bits: int) -> None:
    """A 5x5 filter of the lowest weight over codes on a narrow range at the top."""
    grid = Grid(bits=weight_bits, signed=True)
    conv = Conv(
        input="source",
        weights=np.full((16, 5, 5, 1), grid.low, np.int32),
        weight_grid=grid,
        padding=(2, 2, 2, 2),
        groups=16,
    )
    case = Case(
        step=Step(name="step", anchor=conv, outputs=(Output(tensor="out", value=Acc()),)),
        tensors={
            "source": Tensor(
                name="source", shape=(1, 5, 6, 16), grid=Grid(bits=act_bits, signed=False)
            ),
            "out": Tensor(name="out", shape=(1, 5, 6, 16)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(2, 2, 2, 2)),),
            "out": (Layout(kind="float"),),
        },
    )
    assert check(Depthwise(), case, isa, exact=True) == 0
