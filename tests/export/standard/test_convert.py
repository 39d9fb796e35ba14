from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from mpqdeploy.core import ModelError
from mpqdeploy.export.executors import onnxruntime_layers, onnxruntime_logits
from mpqdeploy.export.qonnx_executor import qonnx_logits, qonnx_reference
from mpqdeploy.export.standard import to_standard_onnx
from tests.export.networks import images, model, quant_node
from tests.targets.graphs import conv_chain


def test_stock_onnxruntime_runs_it(standard_file: Path, qonnx_file: Path) -> None:
    session = onnxruntime.InferenceSession(standard_file, providers=["CPUExecutionProvider"])
    x = images(1)
    (logits,) = session.run(["logits"], {"input": x})
    np.testing.assert_allclose(logits, qonnx_logits(qonnx_file, x), rtol=1e-4, atol=1e-4)


def test_every_layer_agrees_on_identical_inputs(standard_file: Path, qonnx_file: Path) -> None:
    reference = qonnx_reference(qonnx_file, images(16))
    layers = reference.compare(onnxruntime_layers(standard_file, reference))
    assert len(layers) == 6
    assert all(layer.holds for layer in layers), layers
    assert sum(layer.flips for layer in layers) <= 3


def test_end_to_end_predictions(standard_file: Path, qonnx_file: Path) -> None:
    x = images(32)
    expected = qonnx_logits(qonnx_file, x).argmax(axis=1)
    assert (onnxruntime_logits(standard_file, x).argmax(axis=1) == expected).mean() > 0.95


def test_nothing_but_standard_operators(standard_file: Path) -> None:
    standard = onnx.load(standard_file)
    assert {node.domain for node in standard.graph.node} == {""}
    assert [entry.domain for entry in standard.opset_import] == [""]
    onnx.checker.check_model(standard, full_check=True)


@pytest.mark.parametrize(("bits", "stored"), [(1, 1), (2, 2), (3, 4), (4, 4), (6, 8), (8, 8)])
def test_weights_take_their_own_width(tmp_path: Path, bits: int, stored: int) -> None:
    shape = (64, 32, 3, 3)
    weights = np.random.default_rng(bits).standard_normal(shape).astype(np.float32)
    scale = np.full((64, 1, 1, 1), 1 / (1 << (bits - 1)), np.float32)
    tensors = [onnx.numpy_helper.from_array(weights, "w")]
    nodes = [
        quant_node("wq", "w", tensors, scale=scale, bits=bits),
        helper.make_node("Conv", ["x", "wq"], ["y"], "conv"),
    ]
    source = model(nodes, tensors, (1, 32, 4, 4), "y", (1, 64, 2, 2))
    to_standard_onnx(source, tmp_path / "m.onnx")
    expected = weights.size * stored / 8
    # Scales (256 bytes; twice where one bit keeps +scale and -scale) and names come on top.
    assert expected <= (tmp_path / "m.onnx").stat().st_size <= expected + 2000


def test_two_bit_weights_need_opset_25_others_21(tmp_path: Path) -> None:
    for bits, opset in ((1, 21), (2, 25), (4, 21)):
        tensors = [onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")]
        nodes = [
            quant_node("wq", "w", tensors, scale=1.0, bits=bits),
            helper.make_node("Gemm", ["x", "wq"], ["y"], "fc", transB=1),
        ]
        to_standard_onnx(model(nodes, tensors, (1, 3), "y", (1, 2), opset=13), tmp_path / "m.onnx")
        assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    node = helper.make_node("MultiThreshold", ["x", "t"], ["y"], "thresholds", domain="finn.custom")
    tensors = [onnx.numpy_helper.from_array(np.ones((1, 3), np.float32), "t")]
    with pytest.raises(ModelError, match=r"'thresholds'.*MultiThreshold"):
        to_standard_onnx(model([node], tensors, (1, 3), "y", (1, 3)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_computed_scale_is_named(tmp_path: Path) -> None:
    tensors: list[onnx.TensorProto] = []
    quant = quant_node("q", "x", tensors, scale=1.0)
    quant.input[1] = "scale"
    nodes = [helper.make_node("ReduceMax", ["x"], ["scale"], "max", keepdims=0), quant]
    with pytest.raises(ModelError, match=r"'q' \(Quant\) has no constant scale"):
        to_standard_onnx(model(nodes, tensors, (1, 3), "q", (1, 3)), tmp_path / "m.onnx")


@pytest.mark.parametrize("size", [0, 10, 3000])
def test_file_that_is_cut_short(tmp_path: Path, qonnx_file: Path, size: int) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(qonnx_file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        to_standard_onnx(cut, tmp_path / "m.onnx")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx does not exist"):
        to_standard_onnx(tmp_path / "none.onnx", tmp_path / "m.onnx")


def test_a_float_file_is_not_qonnx(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    with pytest.raises(ModelError, match="not a QONNX model"):
        to_standard_onnx(model(nodes, [], (1, 3), "y", (1, 3)), tmp_path / "m.onnx")


def test_a_file_that_nobody_cleaned(tmp_path: Path) -> None:
    """Constants as nodes, an open batch, Brevitas' former domain, no names and no shapes."""
    tensors: list[onnx.TensorProto] = []
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    tensors.append(onnx.numpy_helper.from_array(weights, "w"))
    quants = [
        quant_node("xq", "x", tensors, scale=0.1),
        quant_node("wq", "wt", tensors, scale=0.2, bits=4),
    ]
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
    for node in quants:
        node.domain, node.name = "onnx.brevitas", ""
    nodes = [
        *constants,
        helper.make_node("Transpose", ["w"], ["wt"]),
        *quants,
        helper.make_node("MatMul", ["xq", "wq"], ["y"]),
    ]
    raw = model(nodes, [], (1, 3), "y", (1, 4))
    raw.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    raw.opset_import[1].domain = "onnx.brevitas"
    to_standard_onnx(raw, tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    found = onnxruntime_logits(tmp_path / "m.onnx", x)
    np.testing.assert_allclose(found, qonnx_logits(raw, x), rtol=1e-5, atol=1e-6)
    codes = np.clip(np.round(weights.T / np.float32(0.2)), -8, 7) * np.float32(0.2)
    np.testing.assert_allclose(found, np.round(x / 0.1) * 0.1 @ codes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_onnxruntime_leaves_one_bit_weights_alone(seed: int, tmp_path: Path) -> None:
    """Its default optimizations must not fold BatchNorm into the signs and quantize them anew."""
    source = conv_chain(seed, channels=(3, 32, 32, 16), weight_bits=1, act_bits=8)
    to_standard_onnx(source, tmp_path / "m.onnx")
    shape = [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    runs = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(
            tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"]
        )
        runs.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    plain, optimized = runs
    # A flip at a threshold moves a few outputs; weights of 8 bits per tensor move all of them.
    moved = np.abs(optimized - plain) > 1e-4 * np.abs(plain).max()
    assert moved.mean() < 0.05
