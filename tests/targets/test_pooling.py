"""Maximum pools become part of the convolutions before them where codes follow sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.pooling import take_pools
from mpqdeploy.targets.passes.select import select
from mpqdeploy.targets.program import Conv, Pool, Program
from mpqdeploy.targets.reference import outputs, run
from mpqdeploy.targets.verify import verify_library
from tests.targets import graphs
from tests.targets.compiled import opened


def program_of(model: onnx.ModelProto, folder: Path) -> Program:
    onnx.save(model, folder / "net.onnx")
    return integerize(normalize(folder / "net.onnx"))


def pooling(program: Program) -> Program:
    return take_pools(program, select(program, Isa.PORTABLE, KERNELS), Isa.PORTABLE)[0]


def anchors(program: Program) -> list[str]:
    """What the steps are: `conv+pool` for both in one."""
    names = []
    for step in program.steps:
        pooled = isinstance(step.anchor, Conv) and step.anchor.pool is not None
        names.append(type(step.anchor).__name__ + "+Pool" * pooled)
    return names


def network(
    seed: int = 0, *, window: int = 2, gamma: str = "positive", bits: int = 4, channels: int = 16
) -> onnx.ModelProto:
    """A convolution, its quantizer, a maximum pool, and a convolution that reads it."""
    builder = graphs.GraphBuilder(seed, (1, 3, 8, 8))
    x = builder.conv(builder.quant("x", 8, signed=True), channels, bits=8)
    scale = builder.rng.uniform(0.5, 2.0, (channels, 1, 1))
    if gamma == "mixed":
        scale *= builder.rng.choice([-1, 1], scale.shape)
    x = builder.node("Mul", [x, builder.constant(scale)], channels)
    x = builder.node("Add", [x, builder.constant(builder.rng.normal(0, 1, scale.shape))], channels)
    x = builder.quant(builder.node("Relu", [x], channels), bits)
    x = builder.node("MaxPool", [x], channels, **windows(window))
    return builder.model(builder.conv(x, 5, bits=4))


def windows(size: int) -> dict[str, list[int]]:
    pad = size // 3
    return {"kernel_shape": [size] * 2, "strides": [2, 2], "pads": [pad] * 4}


@pytest.mark.parametrize("gamma", ["positive", "mixed"])
@pytest.mark.parametrize("window", [2, 3])
def test_codes_are_the_same(gamma: str, window: int, tmp_path: Path) -> None:
    """Those of all tensors that are left, channels with negative scales among them."""
    before = program_of(network(window=window, gamma=gamma), tmp_path)
    after = pooling(before)
    assert anchors(before) == ["NoneType", "Conv", "Pool", "Conv"]
    assert anchors(after) == ["NoneType", "Conv+Pool", "Conv"]
    assert after.steps[1].name == before.steps[1].name
    assert set(after.steps[1].sources) >= {*before.steps[1].sources, *before.steps[2].sources}
    image = {"x": np.random.default_rng(1).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)}
    wanted, found = run(before, image), run(after, image)
    for step in after.steps:
        for output in step.outputs:
            np.testing.assert_array_equal(found[output.tensor], wanted[output.tensor])
    np.testing.assert_array_equal(outputs(after, found)["y"], outputs(before, wanted)["y"])


@pytest.mark.parametrize("gamma", ["positive", "mixed"])
@pytest.mark.parametrize("target", ["x86-64", "x86-64-avx2", "x86-64-vnni"])
@pytest.mark.parametrize(("bits", "channels"), [(8, 64), (4, 64), (2, 17)])
def test_libraries_agree_with_qonnx(
    gamma: str, target: str, bits: int, channels: int, tmp_path: Path
) -> None:
    model = network(window=3, gamma=gamma, bits=bits, channels=channels)
    library = opened(model, tmp_path, target)
    stored = {traced.buffer.tensor for traced in library.trace(library.random_inputs())}
    assert len(stored) == 3, "of the convolution before the pool nothing is stored"
    samples = [library.random_inputs(seed) for seed in range(4)]
    layers = verify_library(tmp_path / "net.onnx", library, samples)
    assert len(layers) >= 3
    assert all(layer.holds for layer in layers)


def test_channels_are_turned_with_their_weights(tmp_path: Path) -> None:
    before = program_of(network(gamma="mixed"), tmp_path)
    plain, turned = before.steps[1].anchor, pooling(before).steps[1].anchor
    assert isinstance(plain, Conv)
    assert isinstance(turned, Conv)
    same = (plain.weights == turned.weights).all(axis=(1, 2, 3))
    assert (plain.weights == -turned.weights).all(axis=(1, 2, 3))[~same].all()
    assert 0 < same.sum() < len(same)


def left_alone(model: onnx.ModelProto, folder: Path) -> bool:
    before = program_of(model, folder)
    assert any(isinstance(step.anchor, Pool) for step in before.steps)
    return anchors(pooling(before)) == anchors(before)


def test_codes_that_somebody_else_reads_stay(tmp_path: Path) -> None:
    builder = graphs.GraphBuilder(0, (1, 3, 8, 8))
    x = builder.block(builder.quant("x", 8, signed=True), 16, act_bits=4)
    pooled = builder.node("MaxPool", [x], 16, **windows(2))
    y = builder.conv(x, 16, bits=4, stride=2)
    assert left_alone(builder.model(builder.add(builder.conv(pooled, 16, bits=4), y)), tmp_path)


def test_a_shortcut_before_the_pool_stays(tmp_path: Path) -> None:
    """What is added is another number at every pixel."""
    builder = graphs.GraphBuilder(0, (1, 16, 8, 8))
    x = builder.quant("x", 8, signed=True)
    x = builder.quant(builder.add(builder.conv(x, 16, bits=8), x), 8, signed=True)
    x = builder.node("MaxPool", [x], 16, **windows(2))
    assert left_alone(builder.model(builder.conv(x, 5, bits=4)), tmp_path)


@pytest.mark.parametrize("kind", ["average", "global"])
def test_sums_and_means_stay(kind: str, tmp_path: Path) -> None:
    assert left_alone(graphs.pooled(kind=kind), tmp_path)


def test_weights_that_have_no_opposite_stay(tmp_path: Path) -> None:
    """-128 is a weight of 8 bits, 128 is none."""
    program = program_of(network(gamma="mixed"), tmp_path)
    step = program.steps[1]
    assert isinstance(step.anchor, Conv)
    turned = pooling(program).steps[1].anchor
    assert isinstance(turned, Conv)
    falling = int(np.flatnonzero((turned.weights != step.anchor.weights).any(axis=(1, 2, 3)))[0])
    weights = step.anchor.weights.copy()
    weights[falling, 0, 0, 0] = -128
    lowest = replace(step, anchor=replace(step.anchor, weights=weights))
    steps = tuple(lowest if s is step else s for s in program.steps)
    assert anchors(pooling(replace(program, steps=steps))) == anchors(program)
