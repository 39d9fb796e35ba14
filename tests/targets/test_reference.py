"""The reference executor against direct loops and torch's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets import reference
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import (
    Acc,
    Conv,
    Grid,
    Load,
    Output,
    Pool,
    Quant,
    Step,
    Tensor,
)
from tests.targets import graphs

GRID = Grid(bits=4, signed=True)


def step(anchor: Conv | Pool) -> Step:
    return Step(name="s", anchor=anchor, outputs=(Output(tensor="y", value=Acc()),))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    groups=st.sampled_from([1, 2, 3]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    zero=st.integers(-2, 2),
)
def test_convolution_is_its_definition(
    seed: int,
    groups: int,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    zero: int,
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-8, 8, (2, 5, 6, 6)).astype(np.int32)
    weights = rng.integers(-7, 8, (6, 2, 3, 6 // groups)).astype(np.int32)
    tensor = Tensor(
        name="x", shape=(2, 5, 6, 6), grid=GRID, zero_point=np.full(1, zero, np.float32)
    )
    conv = Conv(
        input="x",
        weights=weights,
        weight_grid=GRID,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=groups,
    )
    acc = reference.accumulate(step(conv), {"x": tensor}, {"x": codes})
    assert acc is not None
    _, rows, columns, _ = acc.shape
    for n, y, x, o in rng.integers(0, (2, rows, columns, 6), (40, 4)):
        total = 0
        first = o // (6 // groups) * (6 // groups)
        for ky in range(2):
            for kx in range(3):
                row = y * stride[0] + ky * dilation[0] - padding[0]
                column = x * stride[1] + kx * dilation[1] - padding[1]
                if 0 <= row < 5 and 0 <= column < 6:
                    pixel = codes[n, row, column, first : first + 6 // groups] - zero
                    total += int(pixel @ weights[o, ky, kx])
        assert acc[n, y, x, o] == total


@pytest.mark.parametrize("kind", ["max", "sum"])
def test_pools_treat_padding_as_documented(kind: str) -> None:
    codes = np.full((1, 2, 2, 1), -3, np.int32)
    tensor = Tensor(name="x", shape=(1, 2, 2, 1), grid=GRID, zero_point=np.ones(1, np.float32))
    pool = Pool(
        input="x",
        kind="max" if kind == "max" else "sum",
        kernel=(2, 2),
        stride=(1, 1),
        padding=(1, 1, 0, 0),
    )
    acc = reference.accumulate(step(pool), {"x": tensor}, {"x": codes})
    assert acc is not None
    expected = [[-3, -3], [-3, -3]] if kind == "max" else [[-4, -8], [-8, -16]]
    assert acc[0, :, :, 0].tolist() == expected


def test_load_outside_its_channels_is_the_zero_point() -> None:
    tensor = Tensor(name="x", shape=(1, 4, 4, 2), grid=GRID, zero_point=np.full(1, 3, np.float32))
    codes = np.arange(32, dtype=np.int32).reshape(1, 4, 4, 2) % 8
    load = Load(tensor="x", stride=(2, 2), channel_offset=1)
    result = reference.load(load, (1, 2, 2, 5), tensor, codes)
    assert result[..., 1:3].tolist() == codes[:, ::2, ::2].tolist()
    assert np.all(result[..., [0, 3, 4]] == 3)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("ROUND", [-2, -2, 0, 0, 2, 2]),
        ("FLOOR", [-3, -2, -1, 0, 1, 2]),
        ("CEIL", [-2, -1, 0, 1, 2, 3]),
        ("ROUND_TO_ZERO", [-2, -1, 0, 0, 1, 2]),
    ],
)
def test_rounding_modes(rounding: str, expected: list[int]) -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32).reshape(1, 1, 1, 6)
    quant = Quant(x=Load(tensor="x"), grid=GRID, rounding=rounding)  # type: ignore[arg-type]
    tensors = {
        "x": Tensor(name="x", shape=(1, 1, 1, 6)),
        "y": Tensor(name="y", shape=(1, 1, 1, 6), grid=GRID),
    }
    elementwise = Step(name="s", anchor=None, outputs=(Output(tensor="y", value=quant),))
    result = reference.run_step(elementwise, tensors, {"x": x})
    assert result["y"].reshape(-1).tolist() == expected


def test_ports_are_nchw() -> None:
    program = integerize(normalize(graphs.mlp(image=(3, 5, 4))))
    x = np.random.default_rng(0).normal(size=(1, 3, 5, 4)).astype(np.float32)
    values = reference.run(program, {"x": x})
    np.testing.assert_array_equal(values["x"][0, 2, 1], x[0, :, 2, 1])
    assert reference.outputs(program, values)["y"].shape == (1, 10)


def test_wrong_inputs_are_refused() -> None:
    program = integerize(normalize(graphs.conv_chain()))
    with pytest.raises(ValueError, match="input 'x' must have shape"):
        reference.run(program, {"x": np.zeros((1, 3, 2, 2), np.float32)})
    with pytest.raises(ValueError, match="input 'x'"):
        reference.run(program, {})
