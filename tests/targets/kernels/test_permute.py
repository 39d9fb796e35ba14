"""The permute kernel: where the machine has VBMI, and by a stand-in for the permute on every level.

What is compiled for VBMI is looked at as text as well.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, kernels_for
from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.kernels.permute import PERMUTE, Gather, PermuteKernel, Vpermb
from mpqdeploy.targets.kernels.permute.micro import Bytes
from mpqdeploy.targets.kernels.permute.mirrored import (
    added_by_mirrors,
    groups_of,
    lookups_of,
    order_mirrored,
)
from mpqdeploy.targets.kernels.register_tiles import divisors
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.target import NAMED, Target, capabilities
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


class WithoutVbmi(Vpermb):
    """All but the permute itself as it is on VBMI."""

    name = "permute_vnni"

    def pick(self, values: Any, places: Any) -> Any:
        return Gather(self.isa).pick(values, places)

    def look_up(self, tables: Bytes, indices: Any) -> Any:
        return Gather(self.isa).look_up(tables, indices)


STANDING_IN = [
    pytest.param(PermuteKernel(micro), micro.isa, id=f"{micro.name}-{micro.isa}")
    for micro in (WithoutVbmi(), *(Gather(isa) for isa in Isa))
    if runs_here(micro.isa)
]
ITSELF = where_it_runs(PERMUTE, Isa.VNNI)
each_level = pytest.mark.parametrize(("kernel", "isa"), [ITSELF, *STANDING_IN])
ZEN4 = Target(name="zen4", isa=Isa.VNNI, cpu="znver4", features=("avx512vbmi",))


def fitting(case: Case, kernel: PermuteKernel, isa: Isa) -> bool:
    return kernel.matches(case.step, case.tensors, isa)


@each_level
@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_geometry(kernel: PermuteKernel, isa: Isa, data: st.DataObject) -> None:
    weights, acts = ("b", "s2", "u2", "n2", "u1"), ("b", "u1", "u2", "s3", "u4", "s5", "u6")
    channels, outs = (5, 16, 33, 48, 100), (3, 16, 17, 40)
    case = data.draw(convolutions(weights=weights, acts=acts, channels=channels, outs=outs))
    if fitting(case, kernel, isa):
        check(case, kernel, isa, extra=data.draw(st.integers(0, 1)))


@each_level
@pytest.mark.parametrize(
    ("weights", "acts"),
    [("b", "b"), ("b", "u6"), ("u1", "u2"), ("s2", "s4"), ("n2", "u6")],
)
def test_largest_sums(kernel: PermuteKernel, isa: Isa, weights: str, acts: str) -> None:
    """Codes at the ends of their grids; 100 channels are no multiple of 16."""
    case = convolution(
        image=(1, 5, 7, 100), out=33, weights=weights, acts=acts, extreme=True, zero=0
    )
    assert fitting(case, kernel, isa)
    check(case, kernel, isa)


@each_level
def test_shares(kernel: PermuteKernel, isa: Isa) -> None:
    case = convolution(image=(1, 5, 7, 20), out=40, weights="s2", acts="u4")
    for schedule in kernel.schedules(case.step, case.tensors, isa):
        found = accumulators(case, kernel, isa, {**schedule, SHARES: 3})
        np.testing.assert_array_equal(found, expected(case).astype(np.float32))


@each_level
@pytest.mark.parametrize(
    ("channels", "parts"), [(300, 3), (511, 13)], ids=["whole lookups", "a group that is none"]
)
def test_parts(kernel: PermuteKernel, isa: Isa, channels: int, parts: int) -> None:
    """Few pixels of many channels: a part's tables and indices are those that a cache holds."""
    case = convolution(image=(1, 6, 5, channels), out=33, weights="b", acts="u4", extreme=True)
    schedules = kernel.schedules(case.step, case.tensors, isa)
    assert {schedule.get("parts", 1) for schedule in schedules} == {1, parts}
    check(case, kernel, isa)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    channels=st.integers(5, 43),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    largest=st.sampled_from([1, 3, 15]),
    seed=st.integers(0, 99),
)
def test_a_mirrored_set_and_its_sign_are_the_sum(
    channels: int, kernel: tuple[int, int], largest: int, seed: int
) -> None:
    """Looked up by numpy, in tables of its own: the definition of `Mirrored`."""
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-1, 1], np.int32), (20, *kernel, channels))
    inputs = rng.integers(0, largest + 1, (*kernel, channels))
    groups = groups_of(channels)
    codes = order_mirrored(weights, vectors=2, lanes=16).reshape(kernel[0], -1, 32, 4)
    padded = np.pad(inputs, ((0, 0), (0, 0), (0, groups * 5 - channels)))
    sums = np.zeros(32, np.int64)
    left = groups % 4  # of a pixel, that fill no lookup: behind those of all pixels that do
    whole = groups - left
    for row, column, group in np.ndindex(*kernel, groups):
        a = padded[row, column].reshape(-1, 5)[group]
        behind = group - whole
        run = kernel[1] * whole + column * left + behind if behind >= 0 else column * whole + group
        code = codes[row, run // 4, :, run % 4]
        plus = code[:, None] >> np.arange(4) & 1
        table = a[0] + np.where(plus, a[1:], largest - a[1:]).sum(axis=1)
        sums += np.where(code >> 4, -table, table)
    found = sums[:20] - added_by_mirrors(weights, largest)
    np.testing.assert_array_equal(found, (weights * inputs).sum(axis=(1, 2, 3)))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(channels=st.integers(16, 90), seed=st.integers(0, 99))
def test_parts_are_a_pixels_own_lookups(channels: int, seed: int) -> None:
    """The same definition; groups without channels have entries of 0 in the set of their code."""
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-1, 1], np.int32), (16, 3, 2, channels))
    inputs = rng.integers(0, 16, (3, 2, channels))
    lookups = lookups_of(channels)
    parts = divisors(lookups, lookups)[-1]
    codes = order_mirrored(weights, vectors=1, lanes=16, parts=parts)
    ordered = codes.reshape(parts, 3, 2, lookups // parts, 16, 4)
    by_pixel = np.moveaxis(ordered, 0, 2).reshape(3, 2, lookups, 16, 4)
    padded = np.pad(inputs, ((0, 0), (0, 0), (0, lookups * 20 - channels)))
    sums = np.zeros(16, np.int64)
    for y, x, group in np.ndindex(3, 2, lookups * 4):
        a = padded[y, x].reshape(-1, 5)[group]
        code = by_pixel[y, x, group // 4, :, group % 4]
        plus = code[:, None] >> np.arange(4) & 1
        exists = group * 5 + np.arange(1, 5) < channels
        turned = np.where(exists, 15 - a[1:], 15)  # of a missing channel, which is cleared
        table = a[0] + np.where(plus, a[1:], turned).sum(axis=1)
        sums += np.where(code >> 4, -table, table)
    found = sums - added_by_mirrors(weights, 15)
    np.testing.assert_array_equal(found, (weights * inputs).sum(axis=(1, 2, 3)))


@pytest.mark.parametrize(
    ("weights", "acts", "dilation", "channels"),
    [
        ("b", "u4", (1, 1), 5),
        ("b", "u6", (1, 1), 4),
        ("b", "u4", (1, 2), 4),
        ("s2", "u4", (1, 1), 4),
    ],
)
def test_signs_are_looked_up_five_at_a_time_where_that_fits(
    weights: str, acts: str, dilation: tuple[int, int], channels: int
) -> None:
    """Six-bit activations would exceed a byte; columns that lie apart are no run. Whichever way,
    weights take their own width."""
    case = convolution(image=(1, 9, 9, 80), out=64, weights=weights, acts=acts, dilation=dilation)
    wanted = PERMUTE.operand(case.step, case.tensors)
    assert wanted is not None
    layouts = {"x": (wanted,), "y": (Layout(kind="float"),)}
    schedule = PERMUTE.schedules(case.step, case.tensors, Isa.VNNI)[0]
    emitted = PERMUTE.emit(case.step, case.tensors, layouts, Isa.VNNI, schedule)
    fields = [array for array in emitted.constants if array.dtype == np.uint8]
    assert len(fields) == (2 if channels == 5 else 1)  # five bits are four and one
    packed = 8 * sum(array.nbytes for array in fields)
    bits = case.conv.weights.size * case.conv.weight_grid.bits
    assert bits <= packed <= bits * 1.02 + 8 * 512


def test_wider_codes_and_large_images_are_left_to_others() -> None:
    def small(weights: str, acts: str) -> Case:
        return convolution(image=(1, 9, 9, 64), out=64, weights=weights, acts=acts)

    assert fitting(small("b", "u6"), PERMUTE, Isa.VNNI)
    assert not fitting(small("s3", "u4"), PERMUTE, Isa.VNNI)
    assert not fitting(small("b", "u7"), PERMUTE, Isa.VNNI)
    assert not fitting(small("b", "u4"), PERMUTE, Isa.AVX2)
    large = convolution(image=(1, 120, 120, 64), out=16, weights="b", acts="u4")
    assert not fitting(large, PERMUTE, Isa.VNNI)


def test_common_kernels_look_bytes_up_with_vbmi() -> None:
    """Other objects of the same names: a stored latency is of a CPU, which has it or has not."""
    with_tables = {kernel.name: kernel for kernel in kernels_for(ZEN4.features)}
    changed = {kernel.name for kernel in KERNELS if with_tables[kernel.name] is not kernel}
    assert changed == {"dot_vnni", "winograd_vnni"}
    assert {kernel.name for kernel in KERNELS} <= set(with_tables)


def test_only_targets_with_vbmi_are_offered_it() -> None:
    assert PERMUTE in kernels_for(ZEN4.features)
    assert kernels_for(()) == KERNELS
    offered = {name for name, target in NAMED.items() if PERMUTE in kernels_for(target.features)}
    assert offered == {"x86-64-vbmi", "x86-64-amx"}
    found = {str(precision): names for precision, names in capabilities(ZEN4).items()}
    assert "permute" in found["1/1"]
    assert "permute" not in found["4/4"]
    assert ZEN4.required[-1] == "avx512vbmi"  # a CPU without it refuses the library


@pytest.mark.parametrize(("weights", "added"), [("b", 1), ("s2", 4), ("u1", 4)])
def test_vbmi_code_is_two_instructions_a_lookup(weights: str, added: int) -> None:
    """Cross-compiled. In the innermost loop, one lookup of signs, or four that are added as bytes,
    before a widening addition, and nothing but the finished accumulators is stored."""
    case = convolution(image=(1, 28, 28, 128), out=128, weights=weights, acts="u4")
    for schedule in PERMUTE.schedules(case.step, case.tensors, Isa.VNNI):
        block = max(blocks(assembly(case, schedule)), key=lambda block: block["vpdpbusd"])
        assert block["vpdpbusd"] > 0
        assert block["vpermb"] == added * block["vpdpbusd"]
        assert block["vpaddb"] == (added - 1) * block["vpdpbusd"]
        pixels = schedule["rows"] * schedule["columns"]
        tile = pixels * schedule["vectors"]
        masks = block["vpandd"] + block["vpandq"]  # of signs: once for all pixels
        assert masks * pixels <= block["vpdpbusd"]
        assert block["stack"] <= tile, (schedule, block)


def assembly(case: Case, schedule: Schedule) -> str:
    wanted = PERMUTE.operand(case.step, case.tensors)
    assert wanted is not None
    layouts = {"x": (wanted,), "y": (Layout(kind="float"),)}
    function = PERMUTE.emit(case.step, case.tensors, layouts, Isa.VNNI, schedule).func
    module = compile_tir(function.with_attr("global_symbol", "kernel"), ZEN4)
    return str(module.mod.inspect_source("s"))


def blocks(text: str) -> list[Counter[str]]:
    """Instructions between labels that are jumped to; `stack` counts stores of vectors there."""
    found: list[Counter[str]] = [Counter()]
    for line in text.splitlines():
        words = line.split()
        if line.startswith(".LBB"):
            found.append(Counter())
        elif words:
            found[-1][words[0]] += 1
            if words[0].startswith("vmov") and line.rstrip().endswith(("(%rsp)", "(%rbp)")):
                found[-1]["stack"] += 1
    return found
