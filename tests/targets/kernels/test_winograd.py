"""Minimal-filtering convolutions: the matrices, the bounds, and the kernels, all exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import dense
from mpqdeploy.targets.kernels.winograd import WINOGRAD_KERNELS, WinogradKernel
from mpqdeploy.targets.kernels.winograd.filtering import F2, F3, Filtering, corrections, fits
from mpqdeploy.targets.kernels.winograd.plan import Plan, WinogradTile
from mpqdeploy.targets.layout import Layout
from tests.targets.kernels.convolutions import Case, check, convolution, runs_here
from tests.targets.kernels.strategies import convolutions

# The registry's decline small convolutions, on which they are right as well.
RUNNABLE = [
    WinogradKernel(kernel.micro, least_channels=1, least_pixels=1)
    for kernel in WINOGRAD_KERNELS
    if runs_here(kernel.micro.isa)
]
each_level = pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda kernel: kernel.name)
each_filtering = pytest.mark.parametrize("filtering", [F2, F3], ids=lambda f: f"m={f.m}")


@each_filtering
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_matrices_compute_the_convolution(filtering: Filtering, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 16)))
    largest = data.draw(st.integers(1, 255 // filtering.input_span))
    wide = data.draw(st.integers(1, 127 // filtering.weight_gain))
    zero = data.draw(st.integers(0, largest))
    n, m = filtering.n, filtering.m
    tile = rng.choice([0, largest, rng.integers(0, largest + 1)], (n, n, 4)).astype(np.int64)
    weights = rng.choice([-wide, wide, 0], (3, 3, 3, 4)).astype(np.int32)
    assert fits(filtering, largest, weights)
    inputs = np.einsum("ra,sb,abi->rsi", filtering.inputs, filtering.inputs, tile)
    inputs += filtering.offsets(largest)[:, :, None]
    assert inputs.min() >= 0
    assert inputs.max() <= 255
    transformed = filtering.transform(weights)
    assert np.abs(transformed).max() <= 127
    sums = np.einsum("rsoi,rsi->rso", transformed, inputs)
    found = filtering.gather(sums, filtering.outputs)
    found += corrections(filtering, weights, largest, zero).reshape(m, m, 3)
    windows = np.lib.stride_tricks.sliding_window_view(tile - zero, (3, 3), (0, 1))
    expected = np.einsum("pqiab,oabi->pqo", windows, weights)
    assert found.shape == (m, m, 3)
    assert np.array_equal(found, expected * filtering.divisor**2)


@each_filtering
def test_wider_codes_do_not_fit(filtering: Filtering) -> None:
    largest, wide = 255 // filtering.input_span, 127 // filtering.weight_gain
    weights = np.full((1, 3, 3, 4), wide, np.int32)
    assert fits(filtering, largest, weights)
    assert not fits(filtering, largest + 1, weights)
    assert not fits(filtering, largest, weights + 1)


def test_sums_that_leave_int32_do_not_fit() -> None:
    assert not fits(F3, 7, np.full((1, 3, 3, 1 << 15), 2, np.int32))


CASES = convolutions(
    weights=["s4", "n4", "s3", "s2", "n2", "u2", "b"],
    acts=["u6", "u4", "u3", "u2", "u1", "s4", "s2", "b"],
    channels=[4, 16, 20, 36, 64, 100],
    outs=[1, 10, 16, 17, 33, 64],
    three_by_three=True,
)


@each_level
@settings(max_examples=6, deadline=None, derandomize=True)
@given(case=CASES, extra=st.integers(0, 1))
def test_exact_for_every_geometry_and_width(kernel: WinogradKernel, case: Case, extra: int) -> None:
    assert kernel.matches(case.step, case.tensors, kernel.micro.isa)
    check(case, kernel, kernel.micro.isa, extra)


@each_level
@pytest.mark.parametrize(("acts", "weights"), [("u6", "s4"), ("u3", "n2")])
def test_extreme_codes_do_not_saturate(kernel: WinogradKernel, acts: str, weights: str) -> None:
    case = convolution(image=(1, 7, 5, 64), out=16, acts=acts, weights=weights)
    case.codes[:] = case.tensors["x"].grid.high  # type: ignore[union-attr]
    case.codes[:, ::2, 1::2] = 0
    case.conv.weights[:] = case.conv.weight_grid.low
    check(case, kernel, kernel.micro.isa)


@each_level
def test_an_image_of_several_chunks(kernel: WinogradKernel) -> None:
    case = convolution(image=(1, 50, 51, 48), out=16, acts="u4", weights="s4")
    assert plan_of(case, kernel).chunks > 1
    check(case, kernel, kernel.micro.isa)


def plan_of(case: Case, kernel: WinogradKernel) -> Plan:
    isa = kernel.micro.isa
    schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    tile = WinogradTile(tiles=schedule["tiles"], vectors=schedule["vectors"])
    geometry = dense(case.step, case.tensors)
    return Plan(geometry=geometry, filtering=F2, tile=tile, lanes=isa.lanes)


@each_level
def test_packed_weights_take_their_own_width(kernel: WinogradKernel) -> None:
    case = convolution(image=(1, 8, 8, 64), out=64, acts="u2", weights="s2")
    isa = kernel.micro.isa
    layouts = {
        "x": (Layout(kind="bytes", padding=(1, 1, 2, 2)),),
        "y": (Layout(kind="float"),),
    }
    for schedule in kernel.schedules(case.step, case.tensors, isa):
        emitted = kernel.emit(case.step, case.tensors, layouts, isa, schedule)
        weights = [array for array in emitted.constants if array.dtype == np.uint8]
        assert sum(array.nbytes for array in weights) == case.conv.weights.size * 2 // 8


def test_declines_what_it_cannot_compute() -> None:
    kernel = WINOGRAD_KERNELS[0]
    small = convolution(image=(1, 6, 6, 32), out=16, acts="u4", weights="s4")
    assert kernel.matches(small.step, small.tensors, Isa.VNNI)
    good = convolution(image=(1, 10, 10, 32), out=16, acts="u4", weights="s4")
    assert kernel.matches(good.step, good.tensors, Isa.VNNI)
    assert not kernel.matches(good.step, good.tensors, Isa.AVX2)
    for other in (
        convolution(image=(1, 10, 10, 32), out=16, acts="u8", weights="s4"),
        convolution(image=(1, 10, 10, 32), out=16, acts="u4", weights="s8"),
        convolution(image=(1, 20, 20, 32), out=16, acts="u4", weights="s4", stride=(2, 2)),
        convolution(image=(1, 20, 20, 32), out=16, acts="u4", weights="s4", dilation=(2, 2)),
        convolution(image=(1, 10, 10, 32), out=16, acts="u4", weights="s4", kernel=(1, 1)),
        convolution(image=(1, 10, 10, 33), out=16, acts="u4", weights="s4"),
        convolution(image=(1, 10, 10, 16), out=16, acts="u4", weights="s4"),
        convolution(image=(1, 5, 7, 32), out=16, acts="u4", weights="s4"),
    ):
        assert not kernel.matches(other.step, other.tensors, Isa.VNNI)


def test_the_fewest_products_are_tried_with_the_fewest_bits() -> None:
    kernel = WINOGRAD_KERNELS[0]
    for acts, weights, expected in (("u4", "s4", {2}), ("u3", "n2", {2, 3}), ("u2", "b", {2, 3})):
        case = convolution(image=(1, 8, 8, 32), out=16, acts=acts, weights=weights)
        schedules = kernel.schedules(case.step, case.tensors, Isa.VNNI)
        assert {schedule["m"] for schedule in schedules} == expected
