"""The pooling kernel against the oracle, on every instruction-set level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.epilogue.following import all_follow
from mpqdeploy.targets.kernels.pool import Pooling
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Acc, Affine, Grid, Output, Pool, Quant, Step, Tensor
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import pools


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=8, deadline=None)
@given(case=pools())
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    assert Pooling().matches(case.step, case.tensors, isa)
    check(Pooling(), case, isa)


@pytest.mark.parametrize("isa", Isa)
def test_maximum_ignores_padding_where_all_codes_are_below_zero(isa: Isa) -> None:
    """Codes of -8 .. 7 with zero point 7: a padded tap would win every window that it is in."""
    grid = Grid(bits=4, signed=True)
    point = np.array([7], np.float32)
    pool = Pool(input="source", kind="max", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    case = Case(
        step=Step(name="step", anchor=pool, outputs=(Output(tensor="out", value=Acc()),)),
        tensors={
            "source": Tensor(name="source", shape=(1, 7, 7, 17), grid=grid, zero_point=point),
            "out": Tensor(name="out", shape=(1, 4, 4, 17), grid=grid, zero_point=point),
        },
        layouts={
            "source": (Layout(kind="bytes"),),
            "out": (Layout(kind="bytes", padding=(1, 1, 1, 1)), Layout(kind="bits")),
        },
    )
    assert check(Pooling(), case, isa, exact=True) == 0


ZERO = np.zeros(1, np.float32)
BYTE = Grid(bits=8, signed=False)
NIBBLE = Grid(bits=4, signed=True)
BIT = Grid(bits=1, signed=False)


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((9, 11), (3, 3), (2, 2), (1, 1, 1, 1)),
        ((8, 8), (2, 2), (2, 2), (0, 0, 0, 0)),
        ((7, 9), (5, 5), (1, 1), (2, 2, 2, 2)),
        ((10, 7), (1, 2), (1, 3), (0, 1, 0, 1)),  # columns between windows, rows of one
    ],
)
@pytest.mark.parametrize("channels", [64, 128, 60])
def test_maxima_are_written_as_bytes(
    isa: Isa,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    channels: int,
) -> None:
    """As they are, in fewer bits, and as one: all of it follows from the codes."""
    top, left, bottom, right = padding
    out = (
        (size[0] + top + bottom - kernel[0]) // stride[0] + 1,
        (size[1] + left + right - kernel[1]) // stride[1] + 1,
    )
    pool = Pool(input="source", kind="max", kernel=kernel, stride=stride, padding=padding)
    narrow = Affine(x=Acc(), mul=np.float32([0.0612]), add=np.float32([-7.3]))
    sign = Affine(x=Acc(), mul=np.float32([0.01]), add=np.float32([-0.7]))
    values = {
        "same": (BYTE, Acc()),
        "narrow": (NIBBLE, Quant(x=narrow, grid=NIBBLE)),
        "bit": (BIT, Quant(x=sign, grid=BIT)),
    }
    outputs = tuple(Output(tensor=name, value=value) for name, (_, value) in values.items())
    border = (1, 1, 2, 0)
    layouts = {
        "source": (Layout(kind="bytes", padding=(1, 0, 2, 1)),),
        "same": (Layout(kind="bytes", padding=border),),
        "narrow": (Layout(kind="bytes", padding=border),),
        "bit": (Layout(kind="bytes"), Layout(kind="bits", padding=border)),
    }
    shape = (2, *out, channels)
    tensors = {
        "source": Tensor(name="source", shape=(2, *size, channels), grid=BYTE),
        **{n: Tensor(name=n, shape=shape, grid=grid) for n, (grid, _) in values.items()},
    }
    case = Case(
        step=Step(name="step", anchor=pool, outputs=outputs), tensors=tensors, layouts=layouts
    )
    how = all_follow(case.step, tensors, layouts, BYTE, isa)
    assert (how is not None) == (isa is Isa.VNNI and channels != 60)
    assert check(Pooling(), case, isa, exact=True) == 0


def test_maxima_that_do_not_follow() -> None:
    """A scale per channel, a grid that is not the input's, floats."""
    pool = Pool(input="source", kind="max", kernel=(2, 2), stride=(2, 2))
    by_channel = Affine(x=Acc(), mul=np.linspace(0.01, 0.1, 64, dtype=np.float32), add=ZERO)
    source = Tensor(name="source", shape=(1, 4, 4, 64), grid=BYTE)
    for grid, value in (
        (NIBBLE, Quant(x=by_channel, grid=NIBBLE)),
        (NIBBLE, Acc()),
        (None, Acc()),
    ):
        out = Tensor(name="out", shape=(1, 2, 2, 64), grid=grid)
        step = Step(name="step", anchor=pool, outputs=(Output(tensor="out", value=value),))
        layouts = {"out": (Layout(kind="reals" if grid is None else "bytes"),)}
        assert all_follow(step, {"source": source, "out": out}, layouts, BYTE, Isa.VNNI) is None


@pytest.mark.parametrize("isa", Isa)
def test_global_average_of_float_output(isa: Isa) -> None:
    """A window over the whole image, its divisor in the epilogue."""
    pool = Pool(input="source", kind="sum", kernel=(8, 8), stride=(1, 1))
    divided = Affine(x=Acc(), mul=np.float32([1 / 64]), add=np.float32([0]))
    case = Case(
        step=Step(name="step", anchor=pool, outputs=(Output(tensor="out", value=divided),)),
        tensors={
            "source": Tensor(name="source", shape=(2, 8, 8, 33), grid=Grid(bits=8, signed=False)),
            "out": Tensor(name="out", shape=(2, 1, 1, 33)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(1, 1, 1, 1)),),
            "out": (Layout(kind="float"),),
        },
    )
    assert check(Pooling(), case, isa, exact=True) == 0
