"""QONNX in, shared library out: right on every instruction-set level, whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mpqdeploy.core import Geometry, ModelError, Precision, TargetError
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.verify import verify_library
from tests.targets import graphs
from tests.targets.compiled import compiled

LEVELS = ("x86-64-vnni", "x86-64-avx2", "x86-64")
# Each operator family once, the levels in turn; every pair is among the slow tests.
FEW = (
    ("residual", "x86-64-vnni"),
    ("weights_1_acts_bipolar", "x86-64-vnni"),
    ("weights_8_acts_8", "x86-64-avx2"),
    ("depthwise", "x86-64-avx2"),
    ("option_a", "x86-64-avx2"),
    ("global_pool", "x86-64"),
    ("mlp_bipolar", "x86-64"),
    ("average_pool", "x86-64-vnni"),
)
PAIRS = [
    pytest.param(name, level, marks=[] if (name, level) in FEW else pytest.mark.slow)
    for name in graphs.GRAPHS
    for level in LEVELS
]


@pytest.mark.parametrize(("name", "level"), PAIRS)
def test_the_library_computes_what_qonnx_computes(name: str, level: str, tmp_path: Path) -> None:
    library = Library(compiled(graphs.GRAPHS[name](5), tmp_path, level).library)
    samples = [library.random_inputs(seed) for seed in range(2)]
    layers = verify_library(tmp_path / "net.onnx", library, samples)
    assert sum(layer.elements for layer in layers) > 100
    assert {layer.name: layer.errors for layer in layers if layer.errors} == {}
    assert layers[-1].name == "y"


def test_the_report_says_what_was_compiled(tmp_path: Path) -> None:
    result = compiled(graphs.conv_chain(0, channels=(3, 17, 8)), tmp_path)
    report = result.report
    assert (report.target, report.isa) == ("x86-64", "portable")
    assert report.library_bytes == result.library.stat().st_size
    convolutions = [step for step in report.steps if step.weights]
    assert [step.precision for step in convolutions] == ["4/8", "4/4"]
    assert [step.weights for step in convolutions] == [17 * 3 * 9, 8 * 17 * 9]
    assert report.weight_bits == 4 * sum(step.weights for step in convolutions)
    assert not any(step.measured for step in report.steps)
    assert any("Conv" in source for source in convolutions[0].sources)
    passes = ["normalize", "integerize", "select", "lay out", "emit", "build"]
    assert list(report.seconds) == passes
    assert report.to_json()["steps"][0]["kernel"]


def test_measured_kernels_are_used(tmp_path: Path) -> None:
    def measured(geometry: Geometry, precision: Precision) -> list[tuple[str, Schedule]]:
        return [("direct", {"columns": 2})] if geometry.in_channels == 17 else []

    onnx.save(graphs.conv_chain(0, channels=(3, 17, 8)), tmp_path / "net.onnx")
    target = load_target("x86-64")
    report = compile_qonnx(
        tmp_path / "net.onnx", target, tmp_path / "net.so", measured=measured
    ).report
    chosen = {step.weights: step for step in report.steps if step.weights}
    assert chosen[8 * 17 * 9].measured
    assert (chosen[8 * 17 * 9].kernel, dict(chosen[8 * 17 * 9].schedule)) == (
        "direct",
        {"columns": 2},
    )
    assert not chosen[17 * 3 * 9].measured


@pytest.mark.parametrize(
    ("weight_bits", "act_bits", "level"),
    [
        (1, 1, "host"),
        (2, 2, "host"),
        (3, 4, "host"),
        (4, 8, "host"),
        (8, 8, "host"),
        (1, 1, "x86-64"),
        (4, 4, "x86-64"),
    ],
)
def test_weights_take_their_own_width(
    weight_bits: int, act_bits: int, level: str, tmp_path: Path
) -> None:
    """Within 10 % of the sum of bits / 8, beside float32 constants per channel, and the code."""
    channels = (64, 64, 64, 64)
    model = graphs.conv_chain(
        0, channels=channels, size=(4, 4), weight_bits=weight_bits, act_bits=act_bits
    )
    report = compiled(model, tmp_path, level).report
    assert report.weight_bits == 3 * 64 * 64 * 9 * weight_bits
    per_channel = 3 * 4 * 64 * 3  # at most three float32 numbers a channel: scale, bias, sums
    assert report.constant_bytes <= 1.1 * report.weight_bits / 8 + per_channel
    code = report.library_bytes - report.constant_bytes
    assert code < 150_000, f"{code} bytes besides weights and constants"


def test_a_wider_network_adds_its_weights_and_no_more(tmp_path: Path) -> None:
    """Six equal layers share code: each adds its 4-bit weights to the file, within 10 %."""
    sizes = []
    for layers in (2, 6):
        folder = tmp_path / str(layers)
        folder.mkdir()
        model = graphs.conv_chain(0, channels=(64,) * (layers + 2), size=(4, 4), weight_bits=4)
        sizes.append(compiled(model, folder).report.library_bytes)
    added = (sizes[1] - sizes[0]) / 4
    weights = 64 * 64 * 9 * 4 / 8
    assert weights <= added <= 1.1 * weights + 4 * 64 * 3


def with_unsupported_node() -> onnx.ModelProto:
    model = graphs.conv_chain(0)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Selu"
    return model


def test_nothing_is_written_for_a_node_that_cannot_be_compiled(tmp_path: Path) -> None:
    onnx.save(with_unsupported_node(), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="Selu"):
        compile_qonnx(tmp_path / "net.onnx", load_target("x86-64"), tmp_path / "out" / "net.so")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_library_that_was_there_survives_a_failed_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(graphs.conv_chain(0), tmp_path / "net.onnx")
    (tmp_path / "net.so").write_bytes(b"the one before")

    def no_linker() -> None:
        raise TargetError("no linker was found.", hint="Install one.")

    monkeypatch.setattr("mpqdeploy.targets.compile.linker", no_linker)
    with pytest.raises(TargetError, match="no linker"):
        compile_qonnx(tmp_path / "net.onnx", load_target("x86-64"), tmp_path / "net.so")
    assert (tmp_path / "net.so").read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.so"]


def test_one_seed_gives_one_network(tmp_path: Path) -> None:
    """Compiling twice gives libraries that compute the same bits."""
    outputs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        library = Library(compiled(graphs.conv_chain(3), tmp_path / name).library)
        outputs.append(library.run(library.random_inputs(1))["y"])
    np.testing.assert_array_equal(outputs[0], outputs[1])
