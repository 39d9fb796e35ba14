"""Bit-sliced convolutions against the oracle, and their plans and thresholds on their own."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.popcount.counted import Counted
from mpqdeploy.targets.kernels.sliced import BIT_SLICED
from mpqdeploy.targets.kernels.sliced.kernel import SlicedKernel, plan_of
from mpqdeploy.targets.kernels.sliced.thresholds import thresholds
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Conv,
    Expr,
    Grid,
    Load,
    Output,
    Quant,
    Step,
    Sum,
    Tensor,
)
from mpqdeploy.targets.reference import evaluate
from tests.targets.kernels.convolutions import Case as Convolution
from tests.targets.kernels.convolutions import convolution
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import BIPOLAR
from tests.targets.kernels.strategies import convolutions

ANY = SlicedKernel(least_filled=0.0, least_channels=1)
ONE_BIT = Grid(bits=1, signed=False)


def binary(
    made: Convolution,
    *,
    grid: Grid = BIPOLAR,
    seed: int = 0,
    value: Expr | None = None,
    extra: int = 0,
) -> Case:
    """The convolution of `made` with a scale and a bias per channel, some of them negative, to one
    bit, as bytes, bits and float codes."""
    conv, tensors = made.conv, made.tensors
    shape = tensors["y"].shape
    rng = np.random.default_rng(seed)
    mul = rng.normal(0, 0.1, shape[3]).astype(np.float32)
    add = rng.normal(0, 1, shape[3]).astype(np.float32)
    value = Affine(x=Acc(), mul=mul, add=add) if value is None else value
    top, left, bottom, right = conv.padding
    source = Layout(kind="bits", padding=(top + extra, left + 2 * extra, bottom + extra, right))
    written = (
        Layout(kind="bits", padding=(1, 0, 2, 1)),
        Layout(kind="bytes"),
        Layout(kind="float"),
    )
    return Case(
        step=Step(
            name="layer",
            anchor=conv,
            outputs=(Output(tensor="z", value=Quant(x=value, grid=grid)),),
        ),
        tensors={"x": tensors["x"], "z": Tensor(name="z", shape=shape, grid=grid)},
        layouts={"x": (source,), "z": written},
    )


GEOMETRIES = convolutions(
    weights=["b"],
    acts=["b", "u1", "u2"],
    channels=[2, 17, 34, 64, 100],
    outs=[3, 17, 33, 64, 100],
)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(made=GEOMETRIES, grid=st.sampled_from([BIPOLAR, ONE_BIT]), extra=st.integers(0, 1))
def test_every_geometry(isa: Isa, made: Convolution, grid: Grid, extra: int) -> None:
    require(isa)
    case = binary(made, grid=grid, extra=extra)
    if plan_of(case.step, case.tensors, isa).masked and case.tensors["x"].shape[3] % 2:
        assert not ANY.matches(case.step, case.tensors, isa)  # half an input outside the image
        return
    assert ANY.matches(case.step, case.tensors, isa)
    check(ANY, case, isa)


@pytest.mark.parametrize(
    ("isa", "image", "channels", "kernel"),
    [
        (Isa.VNNI, (20, 70), 40, (3, 3)),
        (Isa.AVX2, (20, 70), 40, (3, 3)),
        (Isa.VNNI, (3, 300), 34, (1, 3)),
        (Isa.PORTABLE, (3, 300), 34, (1, 3)),
        (Isa.VNNI, (33, 31), 64, (1, 1)),
        (Isa.VNNI, (9, 9), 100, (5, 5)),
    ],
)
def test_large_images_and_kernels(
    isa: Isa, image: tuple[int, int], channels: int, kernel: tuple[int, int]
) -> None:
    """Several slices, rows longer than a word, several loops over groups, groups across columns."""
    require(isa)
    made = convolution(
        image=(1, *image, channels),
        out=33,
        kernel=kernel,
        weights="b",
        acts="b",
        padding=(kernel[0] // 2, 1, kernel[0] // 2, 1),
    )
    case = binary(made)
    matches = ANY.matches(case.step, case.tensors, isa)
    assert matches == (plan_of(case.step, case.tensors, isa).filled > 0)
    if matches:
        check(ANY, case, isa)


def test_what_counts_outside_the_image_is_half() -> None:
    made = convolution(
        image=(1, 9, 11, 6), out=4, stride=(2, 1), dilation=(1, 2), padding=(1, 2, 0, 1),
        weights="b", acts="b",
    )  # fmt: skip
    plan = plan_of(made.step, made.tensors, Isa.VNNI)
    geometry, found = plan.geometry, plan.outside()
    for y, x in product(range(geometry.out_height), range(geometry.out_width)):
        vector, row = y % plan.vectors, y // plan.vectors
        slot = row * plan.pitch + x
        word = found[vector, :, slot % plan.lanes] >> np.uint32(slot // plan.lanes) & 1
        count = int((word.astype(np.int64) << np.arange(plan.digits)).sum())
        outside = sum(
            not (0 <= 2 * y + i - 1 < 9 and 0 <= x + 2 * j - 2 < 11)
            for i, j in product(range(3), range(3))
        )
        assert 2 * count == 6 * outside


def test_weights_are_packed_a_bit_each() -> None:
    made = convolution(image=(1, 28, 30, 64), out=64, weights="b", acts="b")
    packed = plan_of(made.step, made.tensors, Isa.VNNI).variants(made.conv.weights)
    assert packed.nbytes == made.conv.weights.size / 8


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999), spread=st.sampled_from([1e-4, 0.1, 100.0]), acts=st.sampled_from("bu")
)
def test_thresholds_are_the_epilogues_bits_for_every_count(
    seed: int, spread: float, acts: str
) -> None:
    made = convolution(
        image=(1, 4, 4, 20), out=40, weights="b", acts="b" if acts == "b" else "u1", seed=seed
    )
    rng = np.random.default_rng(seed)
    mul = rng.normal(0, spread, 40).astype(np.float32)
    add = rng.normal(0, 1, 40).astype(np.float32)
    case = binary(made, value=Affine(x=Acc(), mul=mul, add=add))
    counted = Counted.of(case.step, case.tensors, 16)
    plan = plan_of(case.step, case.tensors, Isa.VNNI)
    found = thresholds(case.step, case.tensors, counted, plan)
    assert found is not None
    counts = np.arange(plan.most + 1)[:, None]
    acc = (counted.start[:40] + counted.terms.scale * counts).astype(np.int64)
    value = case.step.outputs[0].value
    codes = evaluate(value, acc[None, None], (1, 1, *acc.shape), case.tensors, {}, {})
    digits = np.arange(plan.digits)
    limits = ((found[:, :-1] == 0) << digits).sum(axis=1)
    bits = (counts >= limits) ^ (found[:, -1] != 0)
    np.testing.assert_array_equal(bits, np.reshape(codes, acc.shape) > 0)


def test_declines_what_it_cannot_compare() -> None:
    made = convolution(image=(1, 28, 30, 64), out=64, weights="b", acts="b")
    case = binary(made)
    assert BIT_SLICED.matches(case.step, case.tensors, Isa.VNNI)
    other = {**case.tensors, "other": replace(case.tensors["z"], name="other")}
    residual = binary(made, value=Sum(x=Acc(), y=Load(tensor="other")))
    wide = binary(made, grid=Grid(bits=2, signed=False))
    assert not BIT_SLICED.matches(residual.step, other, Isa.VNNI)
    assert not BIT_SLICED.matches(wide.step, wide.tensors, Isa.VNNI)
    hill = Sum(x=_exp(0.1), y=_exp(-0.1))  # of both signs: it falls, and rises again
    twice = binary(made, value=Affine(x=hill, mul=np.float32([-1]), add=np.float32([4])))
    assert not BIT_SLICED.matches(twice.step, twice.tensors, Isa.VNNI)


def _exp(mul: float) -> Expr:
    inner = Affine(x=Acc(), mul=np.float32([mul]), add=np.float32([0]))
    return Apply(x=inner, function="exp")


@pytest.mark.parametrize(
    ("image", "channels", "out"), [((14, 14), 64, 64), ((28, 28), 16, 64), ((28, 28), 64, 16)]
)
def test_declines_what_leaves_most_slots_empty(
    image: tuple[int, int], channels: int, out: int
) -> None:
    case = binary(convolution(image=(1, *image, channels), out=out, weights="b", acts="b"))
    assert isinstance(case.step.anchor, Conv)
    assert not BIT_SLICED.matches(case.step, case.tensors, Isa.VNNI)
