"""Sums of 16 bits between two steps: which tensors become sums, and kernels that write and read
them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.targets import reference
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.layout import SHORT, Layout
from mpqdeploy.targets.passes.integerize.sums import store_sums
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Conv,
    Expr,
    Grid,
    Load,
    Output,
    Port,
    Program,
    Quant,
    Step,
    Sum,
    Tensor,
)
from tests.targets.agreeing import agrees, executes
from tests.targets.graphs import GraphBuilder
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require, target_for

NARROW = Grid(bits=2, signed=False)
CODES = Grid(bits=4, signed=False)
WEIGHTS = Grid(bits=2, signed=True, narrow=True)
SHAPE = (1, 4, 5, 17)


def scaled(x: Expr, seed: int) -> Expr:
    rng = np.random.default_rng(seed)
    mul, add = (rng.uniform(-0.5, 1.5, 17).astype(np.float32) for _ in range(2))
    return Affine(x=x, mul=mul, add=add)


def conv(weights: np.ndarray | None = None) -> Conv:
    if weights is None:
        weights = np.random.default_rng(5).integers(-1, 2, (17, 1, 1, 6))
    return Conv(input="a", weights=weights.astype(np.int32), weight_grid=WEIGHTS)


def shortcut(
    value: Expr | None = None, *, load: Load | None = None, anchor: Conv | None = None
) -> Program:
    """a -> s, floats unless `value` says otherwise; a -> y, codes, which adds s."""
    value = value or Clip(x=scaled(Acc(), 0), low=-0.3, high=np.inf)
    added = Sum(x=scaled(Acc(), 1), y=scaled(load or Load(tensor="s"), 2))
    names = {"a": (1, 4, 5, 6), "s": SHAPE, "y": SHAPE, "x": (1, 4, 5, 6)}
    grids = {"a": NARROW, "y": CODES}
    tensors = {n: Tensor(name=n, shape=shape, grid=grids.get(n)) for n, shape in names.items()}
    quant = Quant(x=Load(tensor="x"), grid=NARROW)
    return Program(
        inputs=(Port(name="x", tensor="x", shape=(1, 6, 4, 5)),),
        outputs=(),
        tensors=tensors,
        steps=(
            Step(name="in", anchor=None, outputs=(Output(tensor="a", value=quant),)),
            Step(name="one", anchor=anchor or conv(), outputs=(Output(tensor="s", value=value),)),
            Step(
                name="two",
                anchor=conv(),
                outputs=(Output(tensor="y", value=Quant(x=added, grid=CODES)),),
            ),
        ),
    )


def test_a_scaled_shortcut_becomes_sums_and_means_the_same() -> None:
    program = shortcut()
    changed = store_sums(program)
    assert changed.tensors["s.sums"].grid == SHORT
    assert "s" not in changed.tensors
    assert changed.steps[1].outputs[0].value == Acc()
    assert [load.tensor for load in changed.steps[2].loads()] == ["s.sums"]
    inputs = {"x": np.random.default_rng(0).normal(size=(1, 6, 4, 5)).astype(np.float32) * 2}
    before, after = (reference.run(each, inputs) for each in (program, changed))
    assert np.unique(before["y"]).size > 3
    np.testing.assert_array_equal(before["y"], after["y"])


@pytest.mark.parametrize("magnitude", [10922, 10923])
def test_sums_must_be_proven_to_fit(magnitude: int) -> None:
    """3 is the largest input: 3 x 10922 is the last product that fits 16 bits."""
    weights = np.zeros((17, 1, 1, 6), np.int32)
    weights[3, 0, 0, 2] = -magnitude
    anchor = replace(conv(weights), weight_grid=Grid(bits=15, signed=True))
    changed = store_sums(shortcut(anchor=anchor))
    assert ("s.sums" in changed.tensors) == (magnitude == 10922)


def test_what_is_no_scaled_sum_stays() -> None:
    wide = Affine(
        x=Quant(x=Acc(), grid=Grid(bits=12, signed=True)),
        mul=np.ones(1, np.float32),
        add=np.zeros(1, np.float32),
    )
    strided = Load(tensor="s", channel_offset=1)
    for program in (
        shortcut(wide),  # codes of a quantizer, which verification compares
        shortcut(Apply(x=Acc(), function="sigmoid")),
        shortcut(Sum(x=Acc(), y=Load(tensor="a"))),
        shortcut(load=strided),  # reads zeros, where a sum of 0 would be no 0
    ):
        assert store_sums(program) is program
    program = shortcut()
    port = Port(name="s", tensor="s", shape=(1, 17, 4, 5))
    assert "s" in store_sums(replace(program, outputs=(port,))).tensors
    anchored = replace(program.steps[2], anchor=replace(conv(), input="s"))
    assert "s" in store_sums(replace(program, steps=(*program.steps[:2], anchored))).tensors


@pytest.mark.parametrize("isa", list(Isa))
@pytest.mark.parametrize("channels", [3, 16, 33, 100])
def test_kernels_write_and_read_sums(isa: Isa, channels: int) -> None:
    require(isa)
    rng = np.random.default_rng(channels)
    anchor = Conv(
        input="x",
        weights=rng.integers(-8, 8, (channels, 3, 3, 10)).astype(np.int32),
        weight_grid=Grid(bits=4, signed=True),
        padding=(1, 1, 1, 1),
    )
    shape = (2, 5, 6, channels)
    tensors = {
        "x": Tensor(name="x", shape=(2, 5, 6, 10), grid=Grid(bits=8, signed=False)),
        "in": Tensor(name="in", shape=shape, grid=SHORT),
        "out": Tensor(name="out", shape=shape, grid=SHORT),
        "y": Tensor(name="y", shape=shape, grid=CODES),
    }
    mul = rng.uniform(-1e-3, 1e-3, channels).astype(np.float32)
    read = Affine(x=Load(tensor="in"), mul=mul, add=np.full(1, 7, np.float32))
    added = Sum(x=read, y=Affine(x=Acc(), mul=mul, add=np.zeros(1, np.float32)))
    outputs = (
        Output(tensor="out", value=Acc()),
        Output(tensor="y", value=Quant(x=added, grid=CODES)),
    )
    step = Step(name="both", anchor=anchor, outputs=outputs)
    written = {"out": (Layout(kind="shorts"),), "y": (Layout(kind="bytes"),)}
    tried = 0
    for kernel in KERNELS:
        if kernel.matches(step, tensors, isa) and not target_for(isa, kernel).missing():
            case = Case(step=step, tensors=tensors, layouts=layouts(kernel, step, tensors, written))
            assert check(kernel, case, isa, seed=channels) <= 2
            tried += 1
    assert tried


def layouts(
    kernel: Kernel,
    step: Step,
    tensors: dict[str, Tensor],
    written: dict[str, tuple[Layout, ...]],
) -> dict[str, tuple[Layout, ...]]:
    operand = kernel.operand(step, tensors)
    assert operand is not None
    return {"x": (operand,), "in": (Layout(kind="shorts"),), **written}


def test_a_compiled_shortcut_agrees_with_qonnx(tmp_path: Path) -> None:
    builder = GraphBuilder(3, (1, 3, 8, 8))
    x = builder.quant("x", 4)
    y, z = builder.conv(x, 20), builder.conv(x, 20, bits=2)
    total = builder.node("Add", [y, builder.relu(z)])
    model = builder.model(builder.conv(builder.quant(total, 4), 4))
    program = agrees(model)
    sums = [name for name, tensor in program.tensors.items() if tensor.grid == SHORT]
    assert len(sums) == 1
    executes(model, tmp_path)
