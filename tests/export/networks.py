"""Small Brevitas networks and QONNX graphs that the export tests share."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

IMAGE = (3, 8, 8)
QONNX = "qonnx.custom_op.general"


class MixedNet(nn.Module):
    """8-, 4-, 2- and 1-bit layers, both kinds of 1-bit activation, a residual, a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = qnn.QuantIdentity(bit_width=8)
        self.conv1 = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False, weight_bit_width=8)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = qnn.QuantReLU(bit_width=4)
        self.conv2 = qnn.QuantConv2d(
            8,
            8,
            3,
            padding=1,
            bias=False,
            weight_quant=Int8WeightPerChannelFloat,
            weight_bit_width=2,
        )
        self.bn2 = nn.BatchNorm2d(8)
        self.sign = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.conv3 = qnn.QuantConv2d(
            8, 8, 3, padding=1, bias=False, weight_quant=SignedBinaryWeightPerTensorConst
        )
        self.bn3 = nn.BatchNorm2d(8)
        self.relu3 = qnn.QuantReLU(bit_width=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.exit = qnn.QuantIdentity(bit_width=8)
        self.fc = qnn.QuantLinear(8, 10, bias=True, weight_bit_width=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(self.entry(x))))
        x = self.sign(self.bn2(self.conv2(x)) + x)
        x = self.relu3(self.bn3(self.conv3(x)))
        logits: Tensor = self.fc(self.exit(torch.flatten(self.pool(x), 1)))
        return logits


def mixed_net(seed: int = 0) -> MixedNet:
    """Calibrated by a few batches of noise, in eval mode."""
    torch.manual_seed(seed)
    net = MixedNet()
    for _ in range(3):
        net(torch.randn(16, *IMAGE))
    return net.eval()


def images(count: int, seed: int = 1) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, *IMAGE)).astype(np.float32)


def quant_node(
    name: str,
    source: str,
    tensors: list[TensorProto],
    *,
    scale: NDArray[np.float32] | float,
    zero_point: float = 0.0,
    bits: int = 8,
    signed: bool = True,
    narrow: bool = False,
    rounding: str = "ROUND",
) -> onnx.NodeProto:
    """A `Quant` node with its parameters appended to `tensors`; its output has its name."""
    parameters = {"scale": scale, "zero": zero_point, "bits": float(bits)}
    for key, value in parameters.items():
        tensors.append(numpy_helper.from_array(np.asarray(value, np.float32), f"{name}.{key}"))
    return helper.make_node(
        "Quant",
        [source, *(f"{name}.{key}" for key in parameters)],
        [name],
        name,
        domain=QONNX,
        signed=int(signed),
        narrow=int(narrow),
        rounding_mode=rounding,
    )


def model(
    nodes: list[onnx.NodeProto],
    tensors: list[TensorProto],
    input_shape: tuple[int, ...],
    output: str,
    output_shape: tuple[int, ...],
    opset: int = 20,
) -> onnx.ModelProto:
    """One input `x`, one output, float32."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(QONNX, 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
