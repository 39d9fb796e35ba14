"""Which epilogues the layouts can hold."""

from __future__ import annotations

import numpy as np
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.storable import lanes_for, storable
from mpqdeploy.targets.program import Grid, Load, Output, Quant, Step, Tensor

U8 = Grid(bits=8, signed=False)


def fits(source: Tensor, out: Tensor, offset: int = 0) -> bool:
    value = Load(tensor="a", channel_offset=offset)
    step = Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),))
    return storable(step, {"a": source, "out": out})


def tensor(channels: int, grid: Grid | None, zero_points: int = 1) -> Tensor:
    zeros = np.arange(zero_points, dtype=np.float32)
    return Tensor(name="a", shape=(1, 1, 1, channels), grid=grid, zero_point=zeros)


def test_a_zero_point_per_channel_has_no_value_past_the_last() -> None:
    assert fits(tensor(4, U8, 4), tensor(4, U8))
    assert not fits(tensor(4, U8, 4), tensor(5, U8))
    assert not fits(tensor(4, U8, 4), tensor(4, U8), offset=1)
    assert fits(tensor(4, U8), tensor(8, U8), offset=2)


def test_stored_codes_are_bytes_but_values_between_may_be_wider() -> None:
    wide = Grid(bits=9, signed=True)
    assert not fits(tensor(4, wide), tensor(4, U8))
    assert not fits(tensor(4, U8), tensor(4, wide))
    assert fits(tensor(4, None), tensor(4, None))
    value = Quant(x=Quant(x=Load(tensor="a"), grid=wide), grid=U8)
    step = Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),))
    assert storable(step, {"a": tensor(4, U8), "out": tensor(4, U8)})


@pytest.mark.parametrize(("channels", "lanes"), [(3, 4), (4, 4), (5, 16), (100, 16)])
def test_images_take_vectors_of_4(channels: int, lanes: int) -> None:
    assert lanes_for(channels, Isa.VNNI) == lanes
