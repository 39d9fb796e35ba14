"""A code that differs is a flip at a threshold, and wrong anywhere else."""

from __future__ import annotations

import numpy as np

from mpqdeploy.targets import reference
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import (
    Affine,
    Grid,
    Load,
    Output,
    Port,
    Program,
    Quant,
    Step,
    Tensor,
)
from tests.targets import flips, graphs
from tests.targets.flips import compare


def quantizer(grid: Grid) -> Program:
    """x -> q = Quant(0.5 x), four elements."""
    shape = (1, 1, 1, 4)
    half = Affine(x=Load(tensor="x"), mul=np.full(1, 0.5, np.float32), add=np.zeros(1, np.float32))
    step = Step(
        name="q", anchor=None, outputs=(Output(tensor="q", value=Quant(x=half, grid=grid)),)
    )
    tensors = {"x": Tensor(name="x", shape=shape), "q": Tensor(name="q", shape=shape, grid=grid)}
    port = Port(name="x", tensor="x", shape=(1, 4))
    return Program(inputs=(port,), outputs=(), tensors=tensors, steps=(step,))


def test_codes_at_a_threshold_may_differ_by_one() -> None:
    program = quantizer(Grid(bits=4, signed=False))
    x = np.array([1.0, 2.0, 3.0000001, 40.0], np.float32).reshape(1, 1, 1, 4)  # 0.5 1 1.5 20
    exact = np.array([0, 1, 2, 15], np.int32)
    for change, flips_expected, wrong in (
        ([0, 0, 0, 0], 0, 0),
        ([1, 0, -1, 0], 2, 0),
        ([0, 1, 0, 0], 0, 1),
        ([2, 0, 0, -1], 0, 2),
    ):
        codes = (exact + np.array(change, np.int32)).reshape(1, 1, 1, 4)
        (found,) = compare(program, {"x": x, "q": codes})
        assert (found.flips, found.wrong, found.codes) == (flips_expected, wrong, 4)


def test_bipolar_codes_flip_at_zero_only() -> None:
    program = quantizer(Grid(bits=1, signed=True, bipolar=True))
    x = np.array([0.0, 1.0, -1.0, 0.0], np.float32).reshape(1, 1, 1, 4)
    codes = np.array([-1, 1, 1, 1], np.int32).reshape(1, 1, 1, 4)
    (found,) = compare(program, {"x": x, "q": codes})
    assert (found.flips, found.wrong) == (1, 1)


def test_a_damaged_layer_is_found_where_it_is() -> None:
    program = integerize(normalize(graphs.residual()))
    port = program.inputs[0]
    x = np.random.default_rng(0).normal(size=port.shape).astype(np.float32)
    values = reference.run(program, {port.name: x})
    assert not any(found.flips or found.wrong for found in compare(program, values))
    damaged = values["Quant_10_out"].copy()
    damaged[0, 3, 3, 5] = (damaged[0, 3, 3, 5] + 3) % 16
    found = {one.tensor: one for one in compare(program, {**values, "Quant_10_out": damaged})}
    assert found["Quant_10_out"].wrong == 1
    assert found["Quant_5_out"].wrong == found["Quant_22_out"].wrong == 0


def test_missing_tensors_are_computed() -> None:
    program = integerize(normalize(graphs.conv_chain()))
    port = program.inputs[0]
    x = np.random.default_rng(0).normal(size=port.shape).astype(np.float32)
    values = reference.run(program, {port.name: x})
    (found,) = compare(program, {"x": values["x"], "y": values["y"]})
    assert (found.tensor, found.step, found.wrong) == ("y", "Conv_7", 0)


def test_context_of_qonnx_gives_codes() -> None:
    program = quantizer(Grid(bits=4, signed=False))
    context = {"q": np.array([[0.0, 1, 2, 15]], np.float32), "x": np.zeros((1, 4), np.float32)}
    values = flips.from_context(program, context)
    assert values["q"].dtype == np.int32
    assert values["q"].tolist() == [[[[0, 1, 2, 15]]]]


def test_ties_are_flips_at_exact_thresholds() -> None:
    program = quantizer(Grid(bits=4, signed=False))
    x = np.array([1.0, 3.0000005, 3.0, 5.0], np.float32).reshape(1, 1, 1, 4)  # 0.5 1.5 1.5 2.5
    other = np.array([1, 1, 1, 2], np.int32).reshape(1, 1, 1, 4)  # towards the other side thrice
    (found,) = compare(program, {"x": x, "q": other})
    assert (found.flips, found.ties, found.wrong) == (3, 2, 0)
