"""Kernels that take maxima of sums before their epilogue, against maxima of exact accumulators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Schedule, TakesPools
from mpqdeploy.targets.kernels.dot import DOT_KERNELS, DOT_VBMI, DotKernel
from mpqdeploy.targets.kernels.permute import PERMUTE, Gather, PermuteKernel
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.program import Pool
from tests.targets.kernels.convolutions import Case, accumulators, convolution, expected, runs_here
from tests.targets.kernels.levels import where_it_runs

DOTS = [
    pytest.param(kernel, kernel.micro.isa, id=kernel.name)
    for kernel in DOT_KERNELS
    if runs_here(kernel.micro.isa)
]
PERMUTES = [
    where_it_runs(PERMUTE, Isa.VNNI),
    pytest.param(PermuteKernel(Gather(Isa.PORTABLE)), Isa.PORTABLE, id="gather"),
]
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]
TWO: Window = ((2, 2), (2, 2), (0, 0, 0, 0))
THREE: Window = ((3, 3), (2, 2), (1, 1, 1, 1))


def pooled(case: Case, window: Window) -> tuple[Case, NDArray[np.int64]]:
    """The convolution with a maximum pool of its sums, and what that gives."""
    kernel, stride, (top, left, bottom, right) = window
    pool = Pool(input="sums", kind="max", kernel=kernel, stride=stride, padding=window[2])
    sums = expected(case)
    rows = (sums.shape[1] + top + bottom - kernel[0]) // stride[0] + 1
    columns = (sums.shape[2] + left + right - kernel[1]) // stride[1] + 1
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(sums, around, constant_values=np.iinfo(np.int64).min)
    taps = [
        padded[:, i : i + stride[0] * rows : stride[0], j : j + stride[1] * columns : stride[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    maxima = np.max([tap[:, :rows, :columns] for tap in taps], axis=0)
    conv = replace(case.conv, pool=pool)
    tensors = {
        "x": case.tensors["x"],
        "sums": replace(case.tensors["y"], name="sums"),
        "y": replace(case.tensors["y"], shape=maxima.shape),
    }
    step = replace(case.step, anchor=conv)
    return Case(step=step, conv=conv, tensors=tensors, codes=case.codes), maxima


def taken(case: Case, kernel: Any, isa: Isa) -> list[Schedule]:
    """The schedules with which the kernel takes the maxima."""
    plain = replace(case.step, anchor=replace(case.conv, pool=None))
    tensors = {**case.tensors, "y": case.tensors["sums"]}
    schedules = kernel.schedules(plain, tensors, isa)
    return [s for s in schedules if kernel.takes_pool(case.step, case.tensors, isa, s)]


def check(case: Case, window: Window, kernel: Any, isa: Isa) -> int:
    """Every schedule that takes the maxima gives them, exactly; how many those are."""
    case, maxima = pooled(case, window)
    schedules = taken(case, kernel, isa)
    for schedule in schedules:
        result = accumulators(case, kernel, isa, schedule)
        np.testing.assert_array_equal(result, maxima.astype(np.float32), str(schedule))
    return len(schedules)


@pytest.mark.parametrize(("kernel", "isa"), DOTS)
@pytest.mark.parametrize(
    ("case", "window"),
    [
        # ResNet's first layer, by runs: windows that share a row and a column
        (
            convolution(
                image=(2, 32, 40, 3), out=64, kernel=(7, 7), stride=(2, 2), padding=(3,) * 4
            ),
            THREE,
        ),
        (convolution(image=(1, 12, 12, 3), out=33, weights="n4"), TWO),
        # by pixels: one vector of channels, several, and channels beyond the last
        (convolution(image=(2, 8, 10, 8), out=16, extreme=True), TWO),
        (
            convolution(image=(1, 9, 9, 17), out=40, weights="n2", acts="s4"),
            ((3, 3), (3, 3), (0,) * 4),
        ),
        (convolution(image=(1, 8, 24, 5), out=32, zero=9), ((3, 2), (2, 2), (1, 0, 1, 0))),
        (
            convolution(image=(1, 24, 8, 5), out=32, kernel=(1, 3), padding=(0, 1, 0, 1)),
            ((2, 3), (2, 2), (0, 1, 0, 1)),
        ),
        # a last row and a last column that no window has
        (convolution(image=(1, 13, 13, 4), out=24), TWO),
        (convolution(image=(1, 6, 6, 4), out=24), ((6, 6), (6, 6), (0,) * 4)),
    ],
)
def test_dot_products(case: Case, window: Window, kernel: DotKernel, isa: Isa) -> None:
    assert check(case, window, kernel, isa) > 0


@pytest.mark.parametrize(("kernel", "isa"), PERMUTES)
@pytest.mark.parametrize("weights", ["b", "n2"])
@pytest.mark.parametrize("window", [TWO, THREE])
def test_lookups(weights: str, window: Window, kernel: PermuteKernel, isa: Isa) -> None:
    case = convolution(image=(2, 8, 12, 20), out=40, weights=weights, acts="u4")
    assert check(case, window, kernel, isa) > 0


@pytest.mark.parametrize(("kernel", "isa"), DOTS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_window(kernel: DotKernel, isa: Isa, data: st.DataObject) -> None:
    """Whatever a kernel says that it takes: sums of an image row by row, of two images."""
    down, across = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    height, width = down + data.draw(st.integers(0, 1)), across + data.draw(st.integers(0, 1))
    top, left, bottom, right = (
        data.draw(st.integers(0, length - 1)) for length in (height, width) * 2
    )
    case = convolution(
        image=(2, data.draw(st.integers(4, 11)), data.draw(st.integers(4, 30)), 3),
        out=data.draw(st.sampled_from([3, 16, 33, 64])),
        kernel=(3, 3),
        stride=(1, data.draw(st.integers(1, 2))),
        seed=data.draw(st.integers(0, 99)),
    )
    window = ((height, width), (down, across), (top, left, bottom, right))
    check(case, window, kernel, isa)


def image(width: int = 12, height: int = 12) -> Case:
    return convolution(image=(1, height, width, 3), out=64)


@pytest.mark.parametrize(
    ("case", "window"),
    [
        (image(), ((3, 3), (1, 1), (1, 1, 1, 1))),  # meet in two rows
        (image(), ((2, 2), (3, 3), (0, 0, 0, 0))),  # pixels of no window
        (image(13), ((3, 3), (2, 2), (1, 1, 1, 2))),  # a last window of one column
        (image(12, 13), ((3, 3), (2, 2), (1, 1, 2, 1))),
        (image(), ((3, 3), (2, 2), (0, 0, 1, 1))),  # a column before the first window's last
        (convolution(image=(1, 12, 12, 64), out=64), TWO),  # weights that are not at hand
    ],
)
def test_others_are_left_to_the_pool(case: Case, window: Window) -> None:
    assert not taken(pooled(case, window)[0], DOT_KERNELS[-1], Isa.PORTABLE)


def test_threads_leave_maxima_to_the_pool() -> None:
    """A window's rows may be two threads'."""
    case = pooled(image(), TWO)[0]
    kernel = DOT_KERNELS[-1]
    schedule = taken(case, kernel, Isa.PORTABLE)[0]
    assert not kernel.takes_pool(case.step, case.tensors, Isa.PORTABLE, {**schedule, SHARES: 2})


def test_who_takes_pools() -> None:
    assert all(isinstance(kernel, TakesPools) for kernel in (*DOT_KERNELS, DOT_VBMI, PERMUTE))
