"""A module that runs several times: one set of weights in the file, a name for every run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from brevitas.quant import Int8WeightPerChannelFloat
from torch import Tensor, nn

from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.export.qonnx_executor import QonnxExecutor
from mpqdeploy.nn.task import Classification

IMAGE = (3, 8, 8)


class _TwoOutputs(Classification):
    outputs = ("fine", "coarse")


class TwoLevels(nn.Module):
    """The coarse level comes last in the program and first in a sorted graph."""

    task = _TwoOutputs()

    def __init__(self) -> None:
        super().__init__()
        self.entry = qnn.QuantIdentity(bit_width=8)
        self.stem = qnn.QuantConv2d(3, 4, 3, padding=1, bias=False)
        self.exit = qnn.QuantReLU(bit_width=8)
        weights = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 4}
        self.head = qnn.QuantConv2d(4, 5, 3, padding=1, bias=False, **weights)
        self.level = qnn.QuantIdentity(bit_width=4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.entry(x)
        coarse = F.max_pool2d(x, 4)
        fine = self.exit(self.stem(x))
        first: Tensor = self.head(self.level(fine))
        return first, self.head(self.level(F.pad(coarse, (0, 0, 0, 0, 0, 1))))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = TwoLevels()
    net(torch.randn(16, *IMAGE))  # sets the activation scales
    return net.eval()


@pytest.fixture(scope="module")
def file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "model.onnx"
    for layer in export_qonnx(net, IMAGE, path):  # raises where a run disagrees with torch
        assert layer.errors == 0
    return path


def test_runs_have_names_in_the_program_s_order(file: Path) -> None:
    nodes = {node.name: node for node in onnx.load(file).graph.node}
    assert {"level.act_quant", "level.act_quant_2"} <= set(nodes)
    assert nodes["head"].output[0] == "fine"
    assert nodes["head_2"].output[0] == "coarse"
    assert nodes["head_2"].input[0] == "level.act_quant_2"


def test_weights_are_there_once(file: Path) -> None:
    model = onnx.load(file)
    readers = Counter(name for node in model.graph.node for name in node.input)
    assert readers["head.weight_quant"] == 2
    sizes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    assert sizes.count((5, 4, 3, 3)) == 1


def test_outputs_have_the_names_that_the_task_gives(net: nn.Module, file: Path) -> None:
    model = onnx.load(file)
    assert [value.name for value in model.graph.output] == ["fine", "coarse"]
    x = np.random.default_rng(1).standard_normal((2, *IMAGE)).astype(np.float32)
    found = QonnxExecutor(file).context(x)
    with torch.no_grad():
        expected = net(torch.from_numpy(x))
    for name, output in zip(("fine", "coarse"), expected, strict=True):
        np.testing.assert_allclose(found[name], output.numpy(), atol=0.2)
