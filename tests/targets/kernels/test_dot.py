"""Dot-product convolutions against exact integer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import dot
from mpqdeploy.targets.kernels.dot import DOT_KERNELS, KEEP, REGISTERS, SCRATCH, DotKernel
from mpqdeploy.targets.kernels.dot_keeping import KeepingInner
from mpqdeploy.targets.kernels.geometry import dense
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Grid
from mpqdeploy.targets.threads import Threads
from tests.targets.kernels.convolutions import Case, check, convolution, runs_here
from tests.targets.kernels.strategies import convolutions

RUNNABLE = [kernel for kernel in DOT_KERNELS if runs_here(kernel.micro.isa)]
each_level = pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda kernel: kernel.name)


CASES = convolutions(
    weights=["s8", "s4", "s3", "s2", "n2", "u4", "s7", "s1", "b"],
    acts=["u8", "u4", "u2", "s8", "s4", "b"],
    channels=[1, 3, 5, 16, 17, 33, 100],
    outs=[1, 3, 10, 16, 17, 33, 64],
)


@each_level
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=CASES, extra=st.integers(0, 1))
def test_exact_for_every_geometry_and_width(kernel: DotKernel, case: Case, extra: int) -> None:
    assert kernel.matches(case.step, case.tensors, kernel.micro.isa)
    check(case, kernel, kernel.micro.isa, extra)


@each_level
@pytest.mark.parametrize("at_hand", [0, 1 << 20])
@pytest.mark.parametrize("weights", ["s8", "s3"])
def test_tiles_of_channels_outside_and_inside_of_rows(
    kernel: DotKernel, weights: str, at_hand: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loops as they are chosen, few weights are read for every row, and many once."""
    monkeypatch.setattr(dot, "AT_HAND", at_hand)
    case = convolution(image=(2, 5, 7, 20), out=96, weights=weights, stride=(2, 1))
    check(case, kernel, kernel.micro.isa)


@each_level
def test_extreme_products_do_not_saturate(kernel: DotKernel) -> None:
    case = convolution(image=(1, 4, 4, 100), out=16, extreme=True)
    case.codes[:] = 255
    case.conv.weights[:] = -128
    check(case, kernel, kernel.micro.isa)


@each_level
@pytest.mark.parametrize("out", [10, 48, 100])
def test_fully_connected(kernel: DotKernel, out: int) -> None:
    case = convolution(
        image=(2, 4, 4, 20), out=out, kernel=(4, 4), padding=(0, 0, 0, 0), weights="s4"
    )
    assert case.tensors["y"].shape == (2, 1, 1, out)
    check(case, kernel, kernel.micro.isa)


@each_level
def test_packed_weights_take_their_own_width(kernel: DotKernel) -> None:
    case = convolution(image=(1, 8, 8, 64), out=64, weights="s2")
    schedule = kernel.schedules(case.step, case.tensors, kernel.micro.isa)[0]
    layouts = {
        "x": (Layout(kind="bytes", padding=(1, 1, 1, 1)),),
        "y": (Layout(kind="float"),),
    }
    emitted = kernel.emit(case.step, case.tensors, layouts, kernel.micro.isa, schedule)
    weights = [array for array in emitted.constants if array.ndim == 2]
    assert sum(array.nbytes for array in weights) == case.conv.weights.size * 2 // 8


def test_declines_what_it_cannot_compute() -> None:
    kernel = DOT_KERNELS[0]
    wide = convolution(image=(1, 8, 8, 16), out=16, weights="u8")
    assert not kernel.matches(wide.step, wide.tensors, Isa.VNNI)
    good = convolution(image=(1, 8, 8, 16), out=16)
    assert not kernel.matches(good.step, good.tensors, Isa.AVX2)
    odd = convolution(image=(1, 8, 8, 16), out=16, acts="s8", zero=300)
    assert not kernel.matches(odd.step, odd.tensors, Isa.VNNI)


VNNI = DOT_KERNELS[0]
on_vnni = pytest.mark.skipif(not runs_here(Isa.VNNI), reason="this machine lacks AVX-512 VNNI")


def unpacks(case: Case) -> set[int]:
    return {way["unpack"] for way in VNNI.schedules(case.step, case.tensors, Isa.VNNI)}


@on_vnni
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(
    ("weights", "channels", "out"),
    [
        ("s4", 3, 20),
        ("s4", 17, 64),
        ("n2", 33, 64),
        ("s2", 100, 60),
        ("s4", 100, 128),
        ("s2", 32, 16),
        ("s1", 31, 30),
        ("b", 30, 64),
        ("b", 32, 33),
        ("s3", 16, 64),
        ("s5", 32, 32),
        ("s6", 100, 64),
        ("s7", 32, 16),
        ("u4", 17, 32),
        ("u2", 16, 10),
    ],
)
def test_exact_in_registers(weights: str, channels: int, out: int, extreme: bool) -> None:
    case = convolution(
        image=(1, 3, 4, channels), out=out, weights=weights, zero=7, extreme=extreme, stride=(2, 2)
    )
    assert unpacks(case) == {0, 1}
    check(case, VNNI, Isa.VNNI)


@on_vnni
@pytest.mark.parametrize("weights", ["s4", "s2", "b"])
@pytest.mark.parametrize("weight", [-1, 1])
def test_sums_near_the_bound_are_exact_in_registers(weights: str, weight: int) -> None:
    """A long sum of the largest products, all of one sign: the factor must not overflow it."""
    case = convolution(
        image=(1, 1, 1, 512), out=16, kernel=(1, 1), padding=(0, 0, 0, 0), weights=weights
    )
    case.codes[:] = 255
    case.conv.weights[:] = case.conv.weight_grid.high if weight > 0 else case.conv.weight_grid.low
    assert unpacks(case) == {0, 1}
    check(case, VNNI, Isa.VNNI)


def test_registers_only_where_the_factor_fits_and_vectors_fill() -> None:
    assert unpacks(convolution(image=(1, 3, 3, 64), out=64)) == {0}
    assert unpacks(convolution(image=(1, 3, 3, 3), out=16, weights="s4")) == {0}
    long = convolution(image=(1, 3, 3, 4096), out=16, weights="s2", extreme=True)
    long.conv.weights[:] = -2
    assert VNNI.matches(long.step, long.tensors, Isa.VNNI)
    assert unpacks(long) == {0}


def test_a_single_block_restores_in_registers_and_a_first_one_keeps_untuned() -> None:
    for side, unpack in ((2, REGISTERS), (16, KEEP)):
        case = convolution(image=(1, side, side, 64), out=64, weights="s4")
        assert VNNI.schedules(case.step, case.tensors, Isa.VNNI)[0]["unpack"] == unpack


KEPT = ["s4", "n2", "b", "s3", "s7", "u4"]


@on_vnni
@pytest.mark.parametrize("shares", [1, 3])
@pytest.mark.parametrize("weights", KEPT)
def test_exact_where_a_first_block_keeps_its_weights(weights: str, shares: int) -> None:
    """Two images of whole and shorter tiles; what is kept is not what an earlier tile kept."""
    Threads(2).ready()
    case = convolution(
        image=(2, 9, 17, 64), out=96, weights=weights, zero=7, extreme=True, stride=(1, 2)
    )
    assert KEEP in unpacks(case)
    check(case, VNNI, Isa.VNNI, shares=shares)


@on_vnni
@pytest.mark.parametrize("weights", KEPT)
def test_exact_where_a_first_block_keeps_the_weights_of_a_part(weights: str) -> None:
    case = convolution(image=(1, 7, 7, 256), out=64, weights=weights, zero=7, extreme=True)
    ways = VNNI.schedules(case.step, case.tensors, Isa.VNNI)
    assert any(way["unpack"] == KEEP and way["parts"] > 1 for way in ways)
    check(case, VNNI, Isa.VNNI)


def test_few_weights_are_not_kept_but_at_hand() -> None:
    few = convolution(image=(1, 16, 16, 16), out=32, weights="s4")
    assert unpacks(few) == {SCRATCH}


def test_kept_weights_are_restored_in_registers() -> None:
    case = convolution(image=(1, 16, 16, 64), out=64, weights="s4")
    geometry, weights = (
        dense(case.step, case.tensors),
        Weights(np.zeros((1, 64)), Grid(bits=4, signed=True)),
    )
    with pytest.raises(ValueError, match="a step at a time"):
        KeepingInner(geometry, VNNI.micro, weights, 1, None)


@on_vnni
@pytest.mark.parametrize("weights", ["s8", "s4", "n2", "b"])
@pytest.mark.parametrize("batch", [1, 2])
def test_exact_in_parts_of_the_input_channels(weights: str, batch: int) -> None:
    """Sums rest between the parts; the last block of rows is shorter than the others."""
    case = convolution(image=(batch, 7, 7, 130), out=60, weights=weights, extreme=True, zero=3)
    ways = VNNI.schedules(case.step, case.tensors, Isa.VNNI)
    assert any(way["parts"] > 1 for way in ways) == (batch == 1)
    check(case, VNNI, Isa.VNNI)


def test_parts_fit_the_first_level_cache_and_are_no_more_than_needed() -> None:
    for side, channels, parts in ((7, 512, 8), (7, 96, 2), (7, 64, 1), (28, 512, 1), (2, 512, 1)):
        case = convolution(image=(1, side, side, channels), out=64)
        found = VNNI.schedules(case.step, case.tensors, Isa.VNNI)
        assert max(way["parts"] for way in found) == parts, (side, channels)


@pytest.mark.parametrize("kernel", DOT_KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("side", [7, 14, 33, 56])
@pytest.mark.parametrize("out", [16, 48, 64, 192])
def test_no_sum_is_left_on_the_stack(kernel: DotKernel, side: int, out: int) -> None:
    """The sums of a tile, the weights of a step and a pixel's activations share the registers."""
    case = convolution(image=(1, side, side, 64), out=out)
    for way in kernel.schedules(case.step, case.tensors, kernel.micro.isa):
        sums = way["rows"] * way["columns"] * way["vectors"]
        assert sums + way["vectors"] + 1 <= kernel.micro.registers


def test_tiles_of_few_loads_come_first_where_weights_are_at_hand() -> None:
    for channels, vectors in ((4, 4), (64, 2)):
        case = convolution(image=(1, 56, 56, channels), out=64)
        assert VNNI.schedules(case.step, case.tensors, Isa.VNNI)[0]["vectors"] == vectors


@pytest.mark.parametrize(
    ("weights", "channels", "first"),
    [("s8", 512, 1), ("s4", 512, 1), ("s2", 516, 43), ("b", 516, 43)],
)
def test_parts_come_first_where_weights_are_restored_beforehand(
    weights: str, channels: int, first: int
) -> None:
    case = convolution(image=(1, 7, 7, channels), out=64, weights=weights)
    assert VNNI.schedules(case.step, case.tensors, Isa.VNNI)[0]["parts"] == first


@each_level
@pytest.mark.parametrize(
    ("weights", "channels", "kernel_size", "tight"),
    [
        ("s8", 3, (7, 7), True),
        ("s4", 1, (5, 5), True),
        ("n2", 2, (1, 3), True),
        ("b", 3, (7, 7), True),
        ("b", 3, (3, 3), False),
        ("s8", 4, (7, 7), False),
    ],
)
def test_images_are_read_by_kernel_rows_where_that_takes_fewer_steps(
    kernel: DotKernel, weights: str, channels: int, kernel_size: tuple[int, int], tight: bool
) -> None:
    padding = (kernel_size[0] // 2, kernel_size[1] // 2) * 2
    case = convolution(
        image=(2, 9, 10, channels),
        out=20,
        kernel=kernel_size,
        padding=padding,
        stride=(2, 1),
        weights=weights,
        acts="s8",
        zero=3,
    )
    operand = kernel.operand(case.step, case.tensors)
    assert operand is not None
    assert (operand.kind == "tight") == tight
    check(case, kernel, kernel.micro.isa, extra=1)


@on_vnni
def test_columns_that_are_apart_are_read_one_by_one() -> None:
    case = convolution(image=(1, 12, 12, 3), out=16, kernel=(7, 7), dilation=(1, 2))
    assert VNNI.operand(case.step, case.tensors) == Layout(kind="bytes", padding=(1, 1, 1, 1))
    check(case, VNNI, Isa.VNNI)
