"""The epilogue by itself, at every number of lanes that a kernel may choose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted
from mpqdeploy.targets.layout import Layout, stored_channels
from mpqdeploy.targets.program import Affine, Clip, Expr, Grid, Load, Output, Quant, Step, Tensor
from tests.targets.kernels.epilogues import EpilogueKernel
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.steps import BIPOLAR

PADDING = (1, 2, 1, 0)
EVERYTHING = (
    Layout(kind="bytes", padding=PADDING),
    Layout(kind="bits", padding=PADDING),
    Layout(kind="float"),
)
LANES = [(isa, lanes) for isa in Isa for lanes in (4, 8, 16) if isa is not Isa.VNNI or lanes != 4]


@dataclass(frozen=True)
class Pixelwise(EpilogueKernel):
    """One vector at a time; `unrolled` passes channels as Python ints."""

    lanes: int
    unrolled: bool = False

    def lanes_on(self, isa: Isa) -> int:
        return self.lanes

    def store_all(self, epilogue: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        batch, height, width, channels = epilogue.shape
        blocks = -(-stored_channels(channels) // self.lanes)
        with T.serial(0, batch) as n, T.serial(0, height) as y, T.serial(0, width) as x:
            if self.unrolled:
                for c0 in range(0, 16 * blocks, self.lanes):
                    epilogue.store(None, n, y, x, c0)
            else:
                with T.serial(0, blocks) as block:
                    epilogue.store(None, n, y, x, block * self.lanes)


def case(channels: int, value: Expr, grid: Grid, zero: int = 0) -> Case:
    """Codes of 6 bits to `value` on `grid`, in every layout."""
    shape = (2, 2, 3, channels)
    return Case(
        step=Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),)),
        tensors={
            "a": Tensor(name="a", shape=shape, grid=Grid(bits=6, signed=True)),
            "out": Tensor(
                name="out", shape=shape, grid=grid, zero_point=np.array([zero], np.float32)
            ),
        },
        layouts={"a": (Layout(kind="bytes"),), "out": EVERYTHING},
    )


def halves(channels: int) -> Affine:
    """Multiples of 1/2, a different one in every channel: exact in float32."""
    add = (np.arange(channels) % 5).astype(np.float32) / 2
    return Affine(x=Load(tensor="a"), mul=np.float32([0.5]), add=add)


@pytest.mark.parametrize(("isa", "lanes"), LANES)
@pytest.mark.parametrize("channels", [3, 10, 32, 33, 100])
def test_writes_all_layouts_of_signed_codes(isa: Isa, lanes: int, channels: int) -> None:
    grid = Grid(bits=3, signed=True)
    value = Quant(x=halves(channels), grid=grid)
    kernel = Pixelwise(lanes, unrolled=channels % 2 == 0)
    assert check(kernel, case(channels, value, grid, zero=-3), isa, exact=True) == 0


@pytest.mark.parametrize(("isa", "lanes"), LANES)
def test_writes_all_layouts_of_signs(isa: Isa, lanes: int) -> None:
    value = Quant(x=halves(33), grid=BIPOLAR)
    assert check(Pixelwise(lanes), case(33, value, BIPOLAR), isa, exact=True) == 0


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO"])
def test_quantizes_twice(isa: Isa, rounding: str) -> None:
    """The inner code is a float32 value of the outer expression."""
    inner = Quant(x=halves(17), grid=Grid(bits=4, signed=True), rounding=rounding)
    scaled = Affine(x=inner, mul=np.float32([0.75]), add=np.float32([1]))
    outer = Quant(x=Clip(x=scaled, low=-2.0, high=np.inf), grid=Grid(bits=4, signed=True))
    assert check(Pixelwise(8), case(17, outer, outer.grid), isa, exact=True) == 0


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("bits", [1, 16])
def test_rounds_to_even_at_both_ends_of_the_widths(isa: Isa, bits: int) -> None:
    """A signed bit is stored one off its code; 16 bits are no stored code but a value."""
    inner = Quant(x=halves(16), grid=Grid(bits=bits, signed=True))
    grid = Grid(bits=min(bits, 8), signed=True)
    assert check(Pixelwise(8), case(16, inner, grid), isa, exact=True) == 0


def test_layers_that_differ_in_constants_share_their_code() -> None:
    from tvm_ffi import structural_equal

    grid = Grid(bits=4, signed=False)

    def emitted(scale: float) -> Emitted:
        affine = Affine(
            x=Load(tensor="a"),
            mul=np.float32([scale]),
            add=np.linspace(0, scale, 16).astype(np.float32),
        )
        one = case(16, Quant(x=affine, grid=grid), grid)
        return Pixelwise(16).emit(one.step, one.tensors, one.layouts, Isa.VNNI, {})

    assert structural_equal(emitted(0.3).func, emitted(0.7).func)


def test_refuses_what_it_cannot_write() -> None:
    from mpqdeploy.targets.kernels.epilogue import Epilogue

    good = case(16, Load(tensor="a"), Grid(bits=6, signed=True))
    with pytest.raises(ValueError, match="4, 8 or 16 lanes"):
        Epilogue(good.step, good.tensors, good.layouts, lanes=32, isa=Isa.VNNI)
    bits = {**good.layouts, "a": (Layout(kind="bits"),)}
    with pytest.raises(ValueError, match="no bytes, shorts, reals or float layout"):
        Epilogue(good.step, good.tensors, bits, lanes=16, isa=Isa.VNNI)
    other = Tensor(name="other", shape=(1, 1, 1, 16))
    two = Step(
        name="step",
        anchor=None,
        outputs=(*good.step.outputs, Output(tensor="other", value=Load(tensor="a"))),
    )
    with pytest.raises(ValueError, match="differ in shape"):
        Epilogue(two, {**good.tensors, "other": other}, good.layouts, lanes=16, isa=Isa.VNNI)


@pytest.mark.parametrize(("isa", "lanes"), LANES)
@pytest.mark.parametrize("channels", [1, 3])
def test_writes_an_images_few_channels_without_room_for_more(
    isa: Isa, lanes: int, channels: int
) -> None:
    value = Quant(x=halves(channels), grid=Grid(bits=5, signed=True))
    made = case(channels, value, value.grid, zero=2)
    tight = replace(made, layouts={**made.layouts, "out": (Layout(kind="tight", padding=PADDING),)})
    assert check(Pixelwise(lanes), tight, isa, exact=True) == 0
