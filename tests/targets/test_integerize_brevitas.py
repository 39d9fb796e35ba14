"""What Brevitas exports becomes a program that agrees with torch."""

from __future__ import annotations

from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFloatInternalScaling,
    Int8WeightPerChannelFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from qonnx.core.onnx_exec import execute_onnx
from torch import Tensor, nn

from mpqdeploy.targets import reference
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from tests.targets import flips

pytestmark = pytest.mark.slow  # torch.export


def conv(channels: int, out: int, bits: int, **options: object) -> nn.Module:
    return qnn.QuantConv2d(
        channels,
        out,
        3,
        padding=1,
        bias=bool(options),
        weight_quant=Int8WeightPerChannelFloat,
        weight_bit_width=bits,
        **options,
    )


class Network(nn.Module):
    """Residual block, binary layer with a quantized bias, average pool, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.input = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat)
        self.conv1, self.norm1 = conv(3, 9, 4), nn.BatchNorm2d(9)
        self.relu1 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4)
        self.conv2, self.norm2 = conv(9, 9, 2), nn.BatchNorm2d(9)
        self.branch = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat)
        self.relu2 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=3)
        self.conv3 = conv(9, 6, 8, bias_quant=Int8BiasPerTensorFloatInternalScaling)
        self.sign = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.conv4 = qnn.QuantConv2d(
            6, 5, 3, padding=1, bias=False, weight_quant=SignedBinaryWeightPerTensorConst
        )
        self.relu4 = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat)
        self.pool = nn.AvgPool2d(2)
        self.mean = qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloat)
        self.linear = qnn.QuantLinear(
            80, 10, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=4
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.conv1(self.input(x))))
        x = self.relu2(self.branch(self.norm2(self.conv2(x))) + x)
        x = self.relu4(self.conv4(self.sign(self.conv3(x))))
        return self.linear(torch.flatten(self.mean(self.pool(x)), 1))


def test_brevitas_export_agrees_with_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Network().train()
    for _ in range(4):
        net(torch.randn(8, 3, 8, 8))
    net.eval()
    path = tmp_path / "net.onnx"
    export_qonnx(net, torch.randn(1, 3, 8, 8), str(path))
    model = normalize(path)
    program = integerize(model)
    assert len(program.steps) == 7
    assert {name for step in program.steps for name in step.sources} == {
        node.name for node in model.graph.node
    }
    (port,), (result,) = program.inputs, program.outputs
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=port.shape).astype(np.float32)
        context = execute_onnx(model, {port.name: x}, return_full_exec_context=True)
        values = flips.from_context(program, context)
        for found in flips.compare(program, values):
            assert found.wrong == 0, found
        got = reference.outputs(program, reference.run(program, {port.name: x}))[result.name]
        with torch.no_grad():
            expected = net(torch.from_numpy(x)).numpy()
        if not any(found.flips for found in flips.compare(program, values)):
            np.testing.assert_allclose(got, expected, atol=1e-4)
