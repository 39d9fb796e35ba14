"""What integers cannot compute falls back to float32 by name; what nothing computes is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mpqdeploy.core import ModelError
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.passes.integerize import HANDLERS, integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Conv, FloatConv, Normalization, Pool, Program, Softmax
from mpqdeploy.targets.target import load_target
from tests.targets.agreeing import agrees
from tests.targets.graphs import GraphBuilder
from tests.targets.wild import WILD, Build, network, node


def test_every_operator_is_in_the_manual() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "compile-a-qonnx-file.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in HANDLERS if f"`{name}`" not in text] == []


def fallbacks(program: Program) -> list[str]:
    return [note for step in program.steps for note in step.fallback]


def program_of(builder: GraphBuilder, output: str) -> Program:
    return integerize(normalize(builder.model(output)))


def test_convolution_of_a_float_falls_back_and_says_so() -> None:
    builder = GraphBuilder(0, (1, 3, 6, 6))
    x = builder.conv(builder.quant("x", 8), 4)
    program = agrees(builder.model(builder.conv(x, 4)))
    assert [type(step.anchor) for step in program.steps] == [type(None), Conv, FloatConv]
    (note,) = fallbacks(program)
    assert note.startswith(
        "Conv 'Conv_4' in float32: its input 'Conv_2_out' is not an integer code"
    )


def test_float_weights_fall_back() -> None:
    builder = GraphBuilder(0, (1, 3, 6, 6))
    weights = builder.constant(builder.rng.normal(size=(4, 3, 1, 1)))
    x = builder.node("Conv", [builder.quant("x", 8), weights], 4, kernel_shape=[1, 1])
    (note,) = fallbacks(agrees(builder.model(x)))
    assert "weights are not integer codes" in note


def test_wide_activations_fall_back() -> None:
    builder = GraphBuilder(0, (1, 3, 6, 6))
    x = builder.conv(builder.quant("x", 16, scale=1e-3, signed=True), 4)
    (note,) = fallbacks(agrees(builder.model(x)))
    assert "Quant 'Quant_0' is 16 bits wide" in note


def test_a_scale_per_channel_falls_back_unless_depthwise() -> None:
    for groups, expected in ((1, 1), (3, 0)):
        builder = GraphBuilder(0, (1, 3, 6, 6))
        scale = np.array([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)
        x = builder.conv(builder.quant("x", 4, scale=scale, signed=True), 3, groups=groups)
        assert len(fallbacks(agrees(builder.model(x)))) == expected


def test_softmax_normalizations_and_pools_of_floats_fall_back() -> None:
    kinds = {
        "softmax": Softmax,
        "max_of_floats": Pool,
        "average_of_floats": Pool,
        "layer_norm_last": Normalization,
    }
    for name, kind in kinds.items():
        program = integerize(normalize(network(WILD[name])))
        assert any(isinstance(step.anchor, kind) and step.fallback for step in program.steps)


def test_the_report_names_what_fell_back(tmp_path: Path) -> None:
    onnx.save(network(WILD["softmax"]), tmp_path / "net.onnx")
    report = compile_qonnx(tmp_path / "net.onnx", load_target("x86-64"), tmp_path / "net.so").report
    notes = [note for step in report.steps for note in step.fallback]
    assert notes == ["Softmax 'Softmax_6' in float32: integers have no Softmax"]
    assert report.to_json()["steps"][2]["fallback"] == tuple(notes)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (node("Softmax", axis=0), "the batch"),
        (node("Resize", np.zeros(0), [1.0, 1, 1.5, 1], mode="nearest"), "no whole factor"),
        (node("Resize", np.zeros(0), [1.0, 1, 2, 2], mode="linear"), "mode linear"),
        (node("Transpose", perm=[1, 0, 2, 3]), "moves the batch"),
        (node("Pow", 3.0), "exponent is 3"),
        (node("Pad", [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), "mode reflect"),
        (node("Cast", to=11), "another type"),
        (node("LayerNormalization", np.ones(8), axis=0), "the batch"),
        (node("LayerNormalization", np.ones(8), axis=4), "axis 4"),
        (node("LayerNormalization", np.ones(8), epsilon=-1.0), "epsilon is -1"),
        (node("LayerNormalization", np.ones(7)), "do not fit"),
        (node("Gelu", approximate="cubic"), "approximation cubic"),
        (node("Concat", axis=0), "axis 0"),
        (node("Softplus"), "not supported"),
        (node("Div", np.zeros(1)), "divides by 0"),
        (node("Div", np.full((6, 6, 8), 1 + np.arange(8.0))), "neither a scalar"),
        (node("Add", np.zeros((2, 2, 6, 6, 8)) + np.arange(8.0)), "does not fit"),
        (node("Gather", [0], axis=0), "indices of axis 0"),
        (node("Gather", [1, 3], axis=2), r"takes \[2\] indices"),
        (node("Gather", [6], axis=2), "index is 6, of 6"),
    ],
)
def test_what_is_not_supported_is_named(build: Build, words: str) -> None:
    with pytest.raises(ModelError, match=r"^Node '\w+_6' \(\w+\): .*" + words):
        integerize(normalize(network(build)))


def test_one_matrix_for_all_of_another_tensor_is_named() -> None:
    def build(builder: GraphBuilder, x: str) -> str:
        one = builder.node("Transpose", [x], perm=[0, 1, 3, 2])
        one = node("Slice", [0], [1], [1], [1], channels=1)(builder, one)
        return builder.node("MatMul", [x, one])

    words = r"^Node 'MatMul_\d+' \(MatMul\): its computed factors have the shapes \[2, 6, 6, 8\]"
    with pytest.raises(ModelError, match=words):
        integerize(normalize(network(build)))
