"""Small Brevitas networks and QONNX graphs that the export tests share."""

from __future__ import annotations

from pathlib import Path

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


def digits_like(path: Path) -> None:
    """A QONNX file made by hand: 8-bit input, 4/8 and 1/2 convolutions, pooling, 8/8 output.

    `input` [1, 3, 8, 8], `logits` [1, 5]; it needs neither Brevitas nor a slow export. The scales
    are no multiples of each other, so that no value lies on a rounding threshold.
    """
    generator = np.random.default_rng(0)
    tensors: list[TensorProto] = []
    nodes = [quant_node("q0", "input", tensors, scale=0.03, bits=8)]

    def layer(index: int, shape: tuple[int, ...], bits: int, source: str) -> str:
        weights = generator.standard_normal(shape).astype(np.float32)
        tensors.append(numpy_helper.from_array(weights, f"w{index}"))
        scale = 2.0 / (1 << (bits - 1))
        nodes.append(
            quant_node(f"wq{index}", f"w{index}", tensors, scale=scale, bits=bits, narrow=True)
        )
        if len(shape) == 4:
            pads = [1, 1, 1, 1]
            node = helper.make_node("Conv", [source, f"wq{index}"], [f"y{index}"], pads=pads)
        else:
            node = helper.make_node("Gemm", [source, f"wq{index}"], [f"y{index}"], transB=1)
        node.name = f"layer{index}"
        nodes.append(node)
        return f"y{index}"

    def relu(source: str, name: str, scale: float, bits: int) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{name}.relu"], f"{name}.relu"))
        nodes.append(
            quant_node(name, f"{name}.relu", tensors, scale=scale, bits=bits, signed=False)
        )
        return name

    y = relu(layer(1, (16, 3, 3, 3), 4, "q0"), "q1", 0.913, 2)
    y = relu(layer(2, (16, 16, 3, 3), 1, y), "q2", 0.4871, 8)
    nodes.append(helper.make_node("GlobalAveragePool", [y], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(quant_node("q3", "flat", tensors, scale=0.377, bits=8, signed=False))
    layer(3, (5, 16), 8, "q3")
    nodes[-1].output[0] = "logits"
    source = model(nodes, tensors, (1, 3, 8, 8), "logits", (1, 5))
    source.graph.input[0].name = "input"
    onnx.save(source, path)
