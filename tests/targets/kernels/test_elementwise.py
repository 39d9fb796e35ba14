"""The elementwise kernel against the float64 oracle, on every instruction-set level."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.elementwise import Elementwise
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Affine, Clip, Grid, Load, Output, Quant, Step, Sum, Tensor
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import (
    BIPOLAR,
    CHANNELS,
    layouts_of,
    paddings,
    requantized,
    tensors_on,
)

BYTES = Layout(kind="bytes")
FLOAT = Layout(kind="float")
FULL = Grid(bits=8, signed=False)


@st.composite
def elementwise(draw: Any) -> Case:
    """Two tensors of codes (the second perhaps strided and shifted in channels) and a float one,
    added up and quantized to one or two outputs."""
    channels = draw(st.sampled_from(CHANNELS))
    n, h, w = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 19))
    stride = draw(st.sampled_from(((1, 1), (2, 2), (1, 3))))
    offset = draw(st.sampled_from((0, 0, 1, 4, 16, -3)))
    inner = draw(st.sampled_from((*CHANNELS, channels)))
    strided = (n, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1, inner)
    a = draw(tensors_on("a", (n, h, w, channels)))
    b = draw(tensors_on("b", strided))
    image = Tensor(name="image", shape=(n, h, w, channels))
    total: Any = Load(tensor="a")
    loads = draw(st.sets(st.sampled_from(("b", "image"))))
    if "b" in loads:
        total = Sum(x=total, y=Load(tensor="b", stride=stride, channel_offset=offset))
    if "image" in loads:
        total = Sum(x=Load(tensor="image"), y=total)
    total = Clip(x=total, low=draw(st.sampled_from((0.0, -np.inf))), high=np.inf)
    outputs, written = [], {}
    for index in range(draw(st.integers(1, 2))):
        shape = (n, h, w, channels)
        out = draw(
            st.one_of(
                tensors_on(f"out{index}", shape), st.just(Tensor(name=f"out{index}", shape=shape))
            )
        )
        written[out.name] = out
        outputs.append(Output(tensor=out.name, value=requantized(draw, total, 256, out)))
    layouts = {name: draw(layouts_of(tensor)) for name, tensor in written.items()}
    layouts |= {
        "a": (Layout(kind="bytes", padding=draw(paddings)),),
        "b": (Layout(kind="bytes", padding=draw(paddings)),),
        "image": (FLOAT,),
    }
    return Case(
        step=Step(name="step", anchor=None, outputs=tuple(outputs)),
        tensors={"a": a, "b": b, "image": image, **written},
        layouts=layouts,
    )


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=15, deadline=None)
@given(case=elementwise())
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Elementwise().matches(case.step, case.tensors, isa)
    check(Elementwise(), case, isa)


def image_case(width: int, channels: int = 3, layout: Layout = BYTES) -> Case:
    """Input quantization: float NCHW images to 8-bit codes, per-channel normalization."""
    shape = (2, 5, width, channels)
    image = Tensor(name="image", shape=shape)
    codes = Tensor(name="codes", shape=shape, grid=FULL, zero_point=np.array([114], np.float32))
    mul = np.linspace(40, 60, channels).astype(np.float32)
    add = np.full(channels, 114, np.float32)
    value = Quant(x=Affine(x=Load(tensor="image"), mul=mul, add=add), grid=FULL)
    return Case(
        step=Step(name="input", anchor=None, outputs=(Output(tensor="codes", value=value),)),
        tensors={"image": image, "codes": codes},
        layouts={"image": (FLOAT,), "codes": (layout,)},
    )


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("width", [1, 16, 37])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["bytes", "tight"])
def test_quantizes_images(
    isa: Isa, width: int, channels: int, kind: Literal["bytes", "tight"]
) -> None:
    layout = Layout(kind=kind, padding=(1, 2, 3, 4))
    check(Elementwise(), image_case(width, channels, layout), isa)


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("signed", [False, True])
def test_rounds_ties_to_even_and_clips(isa: Isa, signed: bool) -> None:
    """Multiples of 1/2 are exact in float32: no code may flip."""
    shape = (1, 4, 4, 16)
    grid = Grid(bits=4, signed=signed)
    source = Tensor(name="a", shape=shape, grid=Grid(bits=6, signed=True))
    half = np.array([0.5], np.float32)
    value = Quant(x=Affine(x=Load(tensor="a"), mul=half, add=np.zeros(1, np.float32)), grid=grid)
    case = Case(
        step=Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),)),
        tensors={"a": source, "out": Tensor(name="out", shape=shape, grid=grid)},
        layouts={"a": (BYTES,), "out": (BYTES, Layout(kind="bits"), FLOAT)},
    )
    assert check(Elementwise(), case, isa, exact=True) == 0


@pytest.mark.parametrize("isa", Isa)
def test_zero_is_plus_one_on_a_bipolar_grid(isa: Isa) -> None:
    shape = (1, 2, 3, 33)
    value = Quant(x=Load(tensor="a"), grid=BIPOLAR)
    case = Case(
        step=Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),)),
        tensors={
            "a": Tensor(name="a", shape=shape, grid=Grid(bits=2, signed=True)),
            "out": Tensor(name="out", shape=shape, grid=BIPOLAR),
        },
        layouts={
            "a": (BYTES,),
            "out": (Layout(kind="bits", padding=(1, 1, 1, 1)), Layout(kind="bytes"), FLOAT),
        },
    )
    assert check(Elementwise(), case, isa, exact=True) == 0


def test_leaves_codes_wider_than_a_byte_alone() -> None:
    case = image_case(4)
    wide = Tensor(name="codes", shape=(2, 5, 4, 3), grid=Grid(bits=9, signed=False))
    assert not Elementwise().matches(case.step, {**case.tensors, "codes": wide}, Isa.AVX2)
