"""Convolutions that are read by kernel rows, with the last bytes of those rows gathered or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.kernels.dot import DOT_KERNELS, DotKernel
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.dot_runs import Runs
from mpqdeploy.targets.kernels.dot_vnni import Vnni
from mpqdeploy.targets.kernels.register_tiles import Tile
from mpqdeploy.targets.threads import Threads
from tests.targets.kernels.convolutions import (
    Case,
    check,
    convolution,
    expected,
    runs_here,
)

RUNNABLE = [kernel for kernel in DOT_KERNELS if runs_here(kernel.micro.isa)]
each_level = pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda kernel: kernel.name)
ROW = Tile(1, 6, 1)


def reading_of(case: Case) -> Reading:
    """On the level with the widest vectors."""
    return Reading.of(case.step, case.tensors, Vnni.isa)


def runs_of(case: Case, tile: Tile = ROW) -> Runs:
    found = Runs.of(reading_of(case), tile)
    assert found is not None
    return found


def image(side: int, kernel: int, channels: int = 3, **more: Any) -> Case:
    more = {"padding": (kernel // 2,) * 4, **more}
    return convolution(image=(2, side, side + 1, channels), out=20, kernel=(kernel, kernel), **more)


@each_level
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        (image(20, 7, stride=(2, 2)), 7 * 5 + 2),
        (image(19, 7, stride=(1, 2), extreme=True), 7 * 5 + 2),
        (image(18, 3, acts="s8", zero=3), 3 * 2 + 1),
        (image(17, 3, stride=(2, 2), weights="s4", padding=(0, 1, 2, 0)), 3 * 2 + 1),
        (image(20, 3, dilation=(3, 1), stride=(2, 1), padding=(3, 1, 3, 1)), 3 * 2 + 1),
        (image(30, 7, stride=(4, 4)), 7 * 5 + 2),
        (image(20, 5, channels=1), 5 * 1 + 2),
        (image(20, 9, channels=1), 9 * 2 + 3),
    ],
)
def test_last_bytes_of_kernel_rows_are_gathered(kernel: DotKernel, case: Case, steps: int) -> None:
    """On images that end before a word's fourth row does, or after, by a border of their own."""
    assert runs_of(case).gathered
    assert runs_of(case).steps == steps
    for extra in (0, 2):
        check(case, kernel, kernel.micro.isa, extra)


@each_level
@pytest.mark.parametrize(
    "case",
    [
        image(20, 5),  # 15 bytes
        image(20, 5, channels=2, weights="n3"),  # 10 bytes
        image(20, 7, stride=(3, 1)),  # a word would serve no other row
        image(20, 3, channels=1),  # 3 bytes
    ],
)
def test_runs_without_one_byte_left(kernel: DotKernel, case: Case) -> None:
    assert not runs_of(case).gathered
    check(case, kernel, kernel.micro.isa)


@each_level
@pytest.mark.parametrize("count", [2, 5])
def test_every_share_gathers_what_it_reads(kernel: DotKernel, count: int) -> None:
    Threads(2).ready()
    case = image(23, 7, stride=(2, 2), seed=count)
    check(case, kernel, kernel.micro.isa, shares=count)


def test_tiles_of_several_rows_gather_nothing() -> None:
    assert not runs_of(image(20, 7), Tile(2, 6, 1)).gathered


@pytest.mark.parametrize(
    "case",
    [
        image(20, 7, weights="b"),  # cannot be 0
        convolution(image=(1, 9, 9, 3), out=600),  # many
        convolution(image=(1, 9, 9, 3), out=16, kernel=(7, 7)),  # one vector
    ],
)
def test_other_weights_are_left_to_other_loops(case: Case) -> None:
    assert Runs.of(reading_of(case), ROW) is None


def test_one_vector_of_channels_is_read_by_pixels_where_rows_take_no_fewer_steps() -> None:
    """Gathered, kernel rows of 3 pixels of 3 channels would; this is ResNet-20's first layer."""
    few = convolution(image=(1, 9, 9, 3), out=16)
    many = convolution(image=(1, 9, 9, 3), out=17)
    assert reading_of(few).pixel is None
    assert reading_of(many).pixel == 3


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 7),
    channels=st.integers(1, 3),
    stride=st.sampled_from([1, 2, 4]),
    dilation=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_steps_read_every_weight_once(
    rows: int, columns: int, channels: int, stride: int, dilation: int
) -> None:
    """Against the convolution's own definition, on bytes: what the table and the words say."""
    case = convolution(
        image=(1, 40, 40, channels),
        out=20,
        kernel=(rows, columns),
        stride=(stride, 1),
        dilation=(dilation, 1),
        padding=(0, 0, 0, 0),
    )
    runs = Runs.of(reading_of(case), ROW)
    assume(runs is not None)
    assert runs is not None
    codes, y, x = case.codes[0], 1, 2
    row = codes.shape[1] * channels
    flat = np.concatenate([codes.reshape(-1), np.zeros(8, np.int32)])
    first = y * stride * row + x * channels
    read = [flat[first + place + np.arange(4)] for place in runs.table(row)]
    last = columns * channels - 1
    for word in range(runs.words):
        top = (y + word * runs.apart) * stride
        lines = [min(top + part * dilation, 39) for part in range(4)]
        read.append(np.array([flat[line * row + x * channels + last] for line in lines]))
    sums = (np.stack(read)[None] * runs.weights[:, :, 0]).sum(axis=(1, 2))
    np.testing.assert_array_equal(sums, expected(case)[0, y, x])
