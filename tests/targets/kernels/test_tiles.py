"""Products of tiles: where the machine has them, and by a stand-in for them on every level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, kernels_for
from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.packing import code_bits
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.kernels.tiles import DOT_AMX, Amx, PlainTiles, TileKernel
from mpqdeploy.targets.kernels.tiles.kernel import stored_grid
from mpqdeploy.targets.kernels.tiles.micro import TILES
from mpqdeploy.targets.kernels.tiles.pairs import paired
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.target import NAMED, capabilities
from tests.targets.kernels.convolutions import (
    Case,
    accumulators,
    check,
    convolution,
    expected,
    runs_here,
)
from tests.targets.kernels.levels import where_it_runs
from tests.targets.kernels.strategies import convolutions

STANDING_IN = [
    pytest.param(TileKernel(PlainTiles(isa), least_columns=1), isa, id=f"plain-{isa}")
    for isa in Isa
    if runs_here(isa)
]
ITSELF = where_it_runs(TileKernel(Amx(), least_columns=1), Isa.VNNI)
each_level = pytest.mark.parametrize(("kernel", "isa"), [ITSELF, *STANDING_IN])
# Loops and weights are the same on every level: what differs is how sums are stored, which
# `test_any_geometry` asks on each.
once = pytest.mark.parametrize(("kernel", "isa"), [ITSELF, STANDING_IN[0]])
RAPIDS = NAMED["x86-64-amx"]


def plan_of(case: Case) -> Plan:
    return Plan.of(Reading.of(case.step, case.tensors))


@each_level
@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_geometry(kernel: TileKernel, isa: Isa, data: st.DataObject) -> None:
    weights, acts = ("b", "s2", "n3", "u4", "s5", "s8"), ("b", "u1", "s4", "u8", "s8")
    channels, outs = (1, 3, 5, 16, 17, 33, 64, 100), (3, 16, 17, 33, 64)
    case = data.draw(convolutions(weights=weights, acts=acts, channels=channels, outs=outs))
    assert kernel.matches(case.step, case.tensors, isa)
    check(case, kernel, isa, extra=data.draw(st.integers(0, 1)))


@once
@pytest.mark.parametrize(
    ("width", "channels", "kernel_size", "weights"),
    [
        (40, 272, (1, 1), "s8"),  # the last step begins inside the one before it
        (33, 64, (3, 3), "b"),
        (17, 16, (3, 3), "b"),  # a kernel row is one run; tiles of a row overlap
        (21, 3, (7, 7), "s8"),
    ],
)
def test_steps_and_rows_of_tiles(
    kernel: TileKernel,
    isa: Isa,
    width: int,
    channels: int,
    kernel_size: tuple[int, int],
    weights: str,
) -> None:
    pad = kernel_size[0] // 2
    case = convolution(
        image=(2, 5, width, channels),
        out=33,
        kernel=kernel_size,
        padding=(pad, pad, pad, pad),
        weights=weights,
        extreme=True,
    )
    assert kernel.matches(case.step, case.tensors, isa)
    check(case, kernel, isa)


@pytest.mark.parametrize("weights", ["s3", "s8"])
def test_products_written_out(weights: str) -> None:
    """As they are for the instructions: here for a stand-in, which takes TVM longer to compile."""
    kernel = TileKernel(PlainTiles(Isa.PORTABLE, written=3), least_columns=1)
    for height, width in ((2, 17), (3, 4)):  # in loops over kernel rows, and as one long row
        case = convolution(image=(1, height, width, 20), out=20, weights=weights)
        for schedule in kernel.schedules(case.step, case.tensors, Isa.PORTABLE)[:2]:
            found = accumulators(case, kernel, Isa.PORTABLE, schedule)
            np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@once
@pytest.mark.parametrize("weights", ["b", "s3", "s8"])
def test_small_images_are_one_long_row(kernel: TileKernel, isa: Isa, weights: str) -> None:
    """One block of pixels: weights may be used in two passes unless they are narrow and many. In a
    buffer of wider rows than the kernel asks for, the image may be more blocks."""

    def flat(case: Case) -> list[Schedule]:
        return [s for s in kernel.schedules(case.step, case.tensors, isa) if s["flat"]]

    many = convolution(image=(1, 7, 7, 128), out=33, weights=weights)
    assert [s["pixels"] for s in flat(many)] == ([4, 2] if weights == "s8" else [4])
    case = convolution(image=(1, 7, 7, 64), out=33, weights=weights)
    assert [s["pixels"] for s in flat(case)] == [4, 2]
    for schedule in flat(case):
        for extra in (0, 8):
            found = accumulators(case, kernel, isa, schedule, extra)
            np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@once
@pytest.mark.parametrize("weights", ["s4", "s8"])
def test_vectors_one_after_the_other(kernel: TileKernel, isa: Isa, weights: str) -> None:
    """Offered where a sum is one product: of all a layer's weights at hand, and of more."""
    plain = {"kernel": (1, 1), "padding": (0, 0, 0, 0), "weights": weights, "extreme": True}
    for channels, out in ((24, 96), (64, 320)):
        case = convolution(image=(2, 3, 33, channels), out=out, **plain)
        apart = [s for s in kernel.schedules(case.step, case.tensors, isa) if s["apart"]]
        assert [(s["pixels"], s["vectors"]) for s in apart] == [(1, 2)]
        for schedule in (*apart, {**apart[0], SHARES: 3}):
            found = accumulators(case, kernel, isa, schedule)
            np.testing.assert_array_equal(found, expected(case).astype(np.float32))
    longer = convolution(image=(2, 3, 33, 65), out=96, **plain)
    assert not any(s["apart"] for s in kernel.schedules(longer.step, longer.tensors, isa))


@once
@pytest.mark.parametrize("size", [4, 5, 6, 8])  # 2, 3, 3 and 5 tiles of pixels
def test_long_rows_take_no_more_tiles_than_there_are(
    kernel: TileKernel, isa: Isa, size: int
) -> None:
    case = convolution(image=(1, size, size, 32), out=96, weights="s8")
    for schedule in kernel.schedules(case.step, case.tensors, isa):
        assert Blocking(schedule["pixels"], schedule["vectors"]).tiles <= TILES
    found = accumulators(case, kernel, isa, kernel.schedules(case.step, case.tensors, isa)[0])
    np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@pytest.mark.parametrize(("kernel", "isa"), [ITSELF])
@pytest.mark.parametrize("weights", ["s2", "u4", "s5", "s6", "s7"])
def test_every_width_is_restored_for_a_long_row(kernel: TileKernel, isa: Isa, weights: str) -> None:
    case = convolution(image=(1, 7, 7, 64), out=33, weights=weights)
    schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    found = accumulators(case, kernel, isa, schedule, extra=1)
    np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@once
@pytest.mark.parametrize(
    ("image", "kernel_size", "padding"),
    [
        ((1, 16, 20, 3), (7, 7), (3, 3, 3, 3)),  # 4 pairs of rows, the last one of 1
        ((2, 9, 11, 3), (3, 3), (1, 1, 1, 1)),  # an odd number of rows; vectors end with the row
        ((1, 10, 12, 4), (4, 3), (2, 0, 1, 1)),  # as many as are needed
    ],
)
def test_pairs_of_rows(
    kernel: TileKernel,
    isa: Isa,
    image: tuple[int, int, int, int],
    kernel_size: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> None:
    case = convolution(
        image=image, out=20, kernel=kernel_size, padding=padding, stride=(2, 2), extreme=True
    )
    plan = plan_of(case)
    assert kernel.matches(case.step, case.tensors, isa)
    two_rows = paired(plan, kernel_size[1])
    assert two_rows is not None
    assert two_rows.products == -(-plan.products // 2)
    for extra in (0, 1):  # another reader's wider border moves the first row of a pair
        for schedule in kernel.schedules(case.step, case.tensors, isa)[:1]:
            found = accumulators(case, kernel, isa, schedule, extra)
            np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@once
@pytest.mark.parametrize(
    ("image", "kernel_size", "stride", "weights"),
    [
        ((2, 9, 14, 64), (3, 3), (2, 2), "b"),  # an odd number of rows: one phase has one fewer
        ((1, 8, 15, 48), (1, 1), (2, 2), "s8"),  # one phase in four is read
        ((1, 13, 10, 64), (4, 2), (3, 1), "s3"),
    ],
)
def test_strides_are_taken_apart(
    kernel: TileKernel,
    isa: Isa,
    image: tuple[int, int, int, int],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    weights: str,
) -> None:
    """A short image under a stride is one long row, too."""
    rows, columns = (size // 2 for size in kernel_size)
    case = convolution(
        image=image,
        out=33,
        kernel=kernel_size,
        stride=stride,
        padding=(rows, columns, rows, columns),
        weights=weights,
        extreme=True,
    )
    flat = next(s for s in kernel.schedules(case.step, case.tensors, isa) if s["flat"])
    for extra in (0, 1):  # another reader's wider border
        found = accumulators(case, kernel, isa, flat, extra)
        np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@once
def test_shares(kernel: TileKernel, isa: Isa) -> None:
    for channels, out in ((20, 64), (64, 80)):  # shared by rows, and by output channels
        case = convolution(image=(1, 5, 20, channels), out=out, weights="s4", acts="u4")
        small = convolution(image=(1, 7, 7, 64), out=out, weights="s4", acts="u4")
        flat = {**kernel.schedules(small.step, small.tensors, isa)[0], SHARES: 3}
        found = accumulators(small, kernel, isa, flat)
        np.testing.assert_array_equal(found, expected(small).astype(np.float32))
        for schedule in kernel.schedules(case.step, case.tensors, isa):
            found = accumulators(case, kernel, isa, {**schedule, SHARES: 3})
            np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@pytest.mark.parametrize(
    ("channels", "columns", "products", "depth"),
    [
        (16, 3, 3, 48),  # a kernel row in one product
        (32, 3, 6, 48),
        (64, 3, 9, 64),
        (40, 3, 9, 40),  # columns apart take no more products, and no bytes between them
        (3, 7, 7, 24),
        (272, 1, 5, 56),
    ],
)
def test_products_of_a_kernel(channels: int, columns: int, products: int, depth: int) -> None:
    case = convolution(image=(1, 9, 30, channels), out=16, kernel=(columns, columns))
    plan = plan_of(case)
    assert (plan.products, plan.depth) == (products, depth)


@given(case=convolutions(weights=["s8"], acts=["u8"], channels=[1, 3, 17, 100], outs=[3, 33]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_every_weight_is_multiplied_once(case: Case) -> None:
    weights = np.abs(case.conv.weights) + 1
    packed = plan_of(case).weights(Reading.of(case.step, case.tensors).weights * 0 + 1, 1)
    assert packed.sum() == weights.size


def test_signs_beside_what_is_no_channel_take_two_bits() -> None:
    """A packed sign is never 0, as weights of such bytes must be."""

    def bits(channels: int, weights: str) -> int:
        case = convolution(image=(1, 9, 16, channels), out=16, weights=weights)
        return code_bits(stored_grid(plan_of(case), case.conv.weight_grid))

    assert [bits(channels, "b") for channels in (64, 128)] == [1, 1]
    assert bits(100, "b") == 2  # its second step begins inside the first
    assert [bits(17, weights) for weights in ("b", "s2", "s3")] == [2, 2, 3]


def test_few_weights_are_at_hand_for_every_block() -> None:
    """Channels are inside of pixels where all weights stay in the first-level cache."""
    few, many = (convolution(image=(1, 9, 32, c), out=64, weights="s4") for c in (16, 64))
    blocking = Blocking(1, 2)
    assert blocking.channels_inside(plan_of(few))
    assert not blocking.channels_inside(plan_of(many))
    assert not Blocking(1, 4).channels_inside(plan_of(few))  # no other channels


def test_only_targets_with_tiles_are_offered_it_and_prefer_it() -> None:
    assert kernels_for(RAPIDS.features)[0] is DOT_AMX
    offered = {name for name, target in NAMED.items() if DOT_AMX in kernels_for(target.features)}
    assert offered == {"x86-64-amx"}
    assert kernels_for(()) == KERNELS
    assert capabilities(RAPIDS)[next(iter(capabilities(RAPIDS)))][0] == "dot_amx"
    assert RAPIDS.required[-2:] == ("amx_tile", "amx_int8")


def test_code_for_tiles_is_products_and_loads() -> None:
    """Cross-compiled: four products for every four loads, on tiles that are configured and given
    back, after the system was asked for them."""
    case = convolution(image=(1, 28, 28, 128), out=128)
    text = assembly(case)
    for name, least in {"tdpbusd": 4, "ldtilecfg": 1, "tilerelease": 1, "syscall": 1}.items():
        assert text.count(name) >= least, name
    assert text.count("tileloadd") <= 2 * text.count("tdpbusd")


def assembly(case: Case) -> str:
    wanted = DOT_AMX.operand(case.step, case.tensors)
    assert wanted is not None
    layouts = {"x": (wanted,), "y": (Layout(kind="float"),)}
    schedule = DOT_AMX.schedules(case.step, case.tensors, Isa.VNNI)[0]
    function = DOT_AMX.emit(case.step, case.tensors, layouts, Isa.VNNI, schedule).func
    module = compile_tir(function.with_attr("global_symbol", "kernel"), RAPIDS)
    return str(module.mod.inspect_source("s"))
