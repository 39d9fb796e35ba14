from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mpqdeploy.core import ModelError
from mpqdeploy.export.baseline import float_onnx, int8_baseline
from mpqdeploy.export.executors import onnxruntime_logits
from tests.export.networks import IMAGE, images


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


@pytest.fixture(scope="module")
def float_file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baseline") / "float.onnx"
    float_onnx(net, IMAGE, path)
    return path


def test_float_logits_are_torch_s(net: nn.Module, float_file: Path) -> None:
    x = images(4)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(onnxruntime_logits(float_file, x), expected, rtol=1e-4, atol=1e-5)
    assert b".py" not in float_file.read_bytes()


def test_int8_is_close_and_quantized(float_file: Path, tmp_path: Path) -> None:
    x = images(32)
    int8_baseline(float_file, [x[:16], x[16:]], tmp_path / "int8.onnx")
    model = onnx.load(tmp_path / "int8.onnx")
    operators = [node.op_type for node in model.graph.node]
    assert "QuantizeLinear" in operators
    assert "BatchNormalization" not in operators
    weights = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert weights == {onnx.TensorProto.INT8}
    expected, found = onnxruntime_logits(float_file, x), onnxruntime_logits(model, x)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_int8_needs_calibration_data(float_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="calibration data"):
        int8_baseline(float_file, [], tmp_path / "int8.onnx")
    assert not list(tmp_path.iterdir())
