"""Small random QONNX graphs with known structure, for tests of the compiler's passes and kernels.

Every function takes a seed and returns an `onnx.ModelProto`; the input is called "x", the output
"y". Weights, BatchNorm statistics, biases and scales are random and never trivial, sized so that
activations use most of their codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

DOMAIN = "qonnx.custom_op.general"
CUSTOM_OPS = ("Quant", "BipolarQuant", "Trunc", "MultiThreshold")
BIPOLAR = 0  # as a number of bits of an activation: {-1, +1}


class GraphBuilder:
    """Appends nodes to a graph; methods take and return tensor names."""

    def __init__(self, seed: int, shape: Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.input_shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.channels = {"x": shape[1]}

    def constant(self, array: NDArray[np.generic] | float, dtype: type = np.float32) -> str:
        name = f"const_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op: str, inputs: Sequence[str], channels: int = 0, **attributes: object) -> str:
        """Append a node called `<op>_<n>` with one output `<op>_<n>_out`."""
        name = f"{op}_{len(self.nodes)}"
        domain = DOMAIN if op in CUSTOM_OPS else ""
        output = f"{name}_out"
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=name, domain=domain, **attributes)
        )
        self.channels[output] = channels or self.channels.get(inputs[0], 0)
        return output

    def quant(
        self,
        x: str,
        bits: int,
        *,
        signed: bool = False,
        narrow: bool = False,
        scale: NDArray[np.generic] | float | None = None,
        zero_point: float = 0.0,
        rounding: str = "ROUND",
    ) -> str:
        """Quantize an activation; the default scale spreads values of about unit variance."""
        if scale is None:
            spread = self.rng.uniform(0.6, 0.9) if bits == 1 else self.rng.uniform(2.0, 3.0)
            scale = spread / max(1, (1 << (bits - signed)) - 1) if bits else 1.0
        if bits == BIPOLAR:
            return self.node("BipolarQuant", [x, self.constant(scale)])
        parameters = [self.constant(value) for value in (scale, zero_point, bits)]
        return self.node(
            "Quant",
            [x, *parameters],
            signed=int(signed),
            narrow=int(narrow),
            rounding_mode=rounding,
        )

    def weights(self, shape: Sequence[int], bits: int, *, per_channel: bool = True) -> str:
        """Quantized weights `[O, ...]`; 1 bit is bipolar, wider ones are narrow."""
        fan_in = int(np.prod(shape[1:]))
        array = self.rng.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
        axes = tuple(range(1, len(shape))) if per_channel else None
        size = np.abs(array)
        keep = bool(per_channel)
        name = self.constant(array)
        if bits == 1:
            scale = size.mean(axis=axes, keepdims=keep)
            return self.node("BipolarQuant", [name, self.constant(scale)])
        top = (1 << (bits - 1)) - 1
        scale = (size.mean if bits == 2 else size.max)(axis=axes, keepdims=keep) / top
        parameters = [self.constant(value) for value in (scale, 0.0, bits)]
        return self.node("Quant", [name, *parameters], signed=1, narrow=1, rounding_mode="ROUND")

    def conv(
        self,
        x: str,
        out: int,
        kernel: int | tuple[int, int] = 3,
        *,
        bits: int = 4,
        stride: int = 1,
        pads: Sequence[int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        per_channel: bool = True,
    ) -> str:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        if pads is None:
            rows, columns = dilation * (height - 1) // 2, dilation * (width - 1) // 2
            pads = (rows, columns, rows, columns)
        shape = (out, self.channels[x] // groups, height, width)
        inputs = [x, self.weights(shape, bits, per_channel=per_channel)]
        if bias:
            inputs.append(self.constant(self.rng.normal(0, 0.3, out)))
        return self.node(
            "Conv",
            inputs,
            out,
            kernel_shape=[height, width],
            strides=[stride, stride],
            pads=list(pads),
            dilations=[dilation, dilation],
            group=groups,
        )

    def linear(self, x: str, features: int, out: int, *, bits: int = 4, bias: bool = True) -> str:
        inputs = [x, self.weights((out, features), bits)]
        if bias:
            inputs.append(self.constant(self.rng.normal(0, 0.3, out)))
        return self.node("Gemm", inputs, out, transB=1)

    def batchnorm(self, x: str) -> str:
        channels = self.channels[x]
        gamma = self.rng.uniform(0.5, 1.5, channels) * self.rng.choice([1, 1, 1, -1], channels)
        beta = self.rng.uniform(-0.4, 0.4, channels)
        mean = self.rng.uniform(-0.3, 0.3, channels)
        variance = self.rng.uniform(0.4, 1.5, channels)
        parameters = [self.constant(value) for value in (gamma, beta, mean, variance)]
        return self.node("BatchNormalization", [x, *parameters], epsilon=1e-5)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def add(self, x: str, y: str) -> str:
        return self.node("Add", [x, y])

    def block(self, x: str, out: int, *, act_bits: int = 4, **conv: object) -> str:
        """Convolution, BatchNorm, and ReLU with a quantizer (or a sign, where BIPOLAR)."""
        y = self.batchnorm(self.conv(x, out, **conv))  # type: ignore[arg-type]
        return self.quant(y if act_bits == BIPOLAR else self.relu(y), act_bits)

    def model(self, output: str, opset: int = 17) -> onnx.ModelProto:
        """The model whose output "y" is the tensor `output`."""
        for node in self.nodes:
            node.output[:] = ["y" if name == output else name for name in node.output]
            node.input[:] = ["y" if name == output else name for name in node.input]
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9 if opset < 21 else 10)
        shaped = ModelWrapper(model, make_deepcopy=True).transform(InferShapes())
        inferred = helper.make_tensor_value_info(
            "y", TensorProto.FLOAT, shaped.get_tensor_shape("y")
        )
        model.graph.output[0].CopyFrom(inferred)
        return model


def conv_chain(
    seed: int = 0,
    *,
    channels: Sequence[int] = (3, 17, 8),
    size: tuple[int, int] = (9, 8),
    weight_bits: int = 4,
    act_bits: int = 4,
    kernel: int = 3,
    stride: int = 1,
    pads: Sequence[int] | None = None,
    dilation: int = 1,
    batch: int = 1,
) -> onnx.ModelProto:
    """8-bit input, then one block per further number of channels, the last of them a plain conv."""
    builder = GraphBuilder(seed, (batch, channels[0], *size))
    x = builder.quant("x", 8, signed=True)
    conv = {
        "bits": weight_bits,
        "kernel": kernel,
        "stride": stride,
        "pads": pads,
        "dilation": dilation,
    }
    for out in channels[1:-1]:
        x = builder.block(x, out, act_bits=act_bits, **conv)
    x = builder.conv(x, channels[-1], bias=True, **conv)  # type: ignore[arg-type]
    return builder.model(x)


def residual(
    seed: int = 0,
    *,
    channels: int = 16,
    size: tuple[int, int] = (8, 8),
    weight_bits: int = 4,
    act_bits: int = 4,
    shortcut_bits: int = 8,
    relu_after: bool = True,
) -> onnx.ModelProto:
    """A residual block whose branches have different scales, and a second block on its output."""
    builder = GraphBuilder(seed, (1, 3, *size))
    x = builder.block(
        builder.quant("x", 8, signed=True), channels, act_bits=act_bits, bits=weight_bits
    )
    for _ in range(2):
        y = builder.block(x, channels, act_bits=act_bits, bits=weight_bits)
        y = builder.batchnorm(builder.conv(y, channels, bits=weight_bits))
        y = builder.quant(y, shortcut_bits, signed=True)
        total = builder.add(y, x)
        x = builder.quant(builder.relu(total) if relu_after else total, act_bits)
    return builder.model(builder.conv(x, 5, 1, bits=8, bias=True))


def residual_float(seed: int = 0, *, channels: int = 16) -> onnx.ModelProto:
    """A down-sampling block: both branches reach the addition in float, without a quantizer."""
    builder = GraphBuilder(seed, (1, 3, 8, 8))
    x = builder.block(builder.quant("x", 8, signed=True), channels)
    y = builder.block(x, channels, stride=2)
    y = builder.batchnorm(builder.conv(y, channels))
    z = builder.batchnorm(builder.conv(x, channels, 1, stride=2, bits=8))
    z = builder.relu(builder.add(y, z))
    a = builder.quant(z, 4)  # two quantizers and a residual read the same float value
    b = builder.quant(z, 8)
    y = builder.add(builder.conv(a, channels, bits=2), builder.conv(b, channels, 1, bits=8))
    return builder.model(builder.add(y, z))


def option_a(
    seed: int = 0, *, channels: int = 8, size: tuple[int, int] = (8, 9), act_bits: int = 4
) -> onnx.ModelProto:
    """ResNet's parameter-free shortcut: a strided slice and zero channels on either side."""
    builder = GraphBuilder(seed, (1, 3, *size))
    x = builder.block(builder.quant("x", 8, signed=True), channels, act_bits=act_bits)
    y = builder.block(x, 2 * channels, act_bits=act_bits, stride=2)
    y = builder.batchnorm(builder.conv(y, 2 * channels))
    sliced = builder.node(
        "Slice",
        [
            x,
            builder.constant([0, 0], np.int64),
            builder.constant([2**31 - 1, 2**31 - 1], np.int64),
            builder.constant([2, 3], np.int64),
            builder.constant([2, 2], np.int64),
        ],
    )
    front, back = channels // 2, channels - channels // 2
    pads = builder.constant([0, front, 0, 0, 0, back, 0, 0], np.int64)
    padded = builder.node("Pad", [sliced, pads], 2 * channels)
    x = builder.quant(builder.relu(builder.add(y, padded)), act_bits)
    return builder.model(builder.conv(x, 5, 1, bits=8))


def mlp(
    seed: int = 0,
    *,
    image: tuple[int, int, int] = (3, 5, 4),
    hidden: int = 33,
    classes: int = 10,
    weight_bits: int = 4,
    act_bits: int = 4,
) -> onnx.ModelProto:
    """Convolution, Flatten from NCHW, and two fully connected layers."""
    builder = GraphBuilder(seed, (1, *image))
    x = builder.block(builder.quant("x", 8, signed=True), 7, act_bits=act_bits, bits=weight_bits)
    features = 7 * image[1] * image[2]
    x = builder.node("Flatten", [x], features, axis=1)
    x = builder.linear(x, features, hidden, bits=weight_bits, bias=False)
    x = builder.quant(builder.relu(builder.batchnorm(x)), act_bits or 2)
    return builder.model(builder.linear(x, hidden, classes, bits=8))


def depthwise(
    seed: int = 0, *, channels: int = 16, weight_bits: int = 4, act_bits: int = 4, stride: int = 1
) -> onnx.ModelProto:
    """Depthwise, then pointwise convolution, ReLU6 as a Clip."""
    builder = GraphBuilder(seed, (1, 3, 8, 8))
    x = builder.block(builder.quant("x", 8, signed=True), channels, act_bits=act_bits)
    x = builder.conv(x, channels, bits=weight_bits, stride=stride, groups=channels)
    bounds = [builder.constant(0.0), builder.constant(6.0)]
    x = builder.node("Clip", [builder.batchnorm(x), *bounds], channels)
    x = builder.conv(builder.quant(x, act_bits), 2 * channels, 1, bits=weight_bits, bias=True)
    return builder.model(x)


def grouped(
    seed: int = 0, *, channels: int = 12, groups: int = 4, weight_bits: int = 4, act_bits: int = 4
) -> onnx.ModelProto:
    """A grouped convolution between two ordinary ones."""
    builder = GraphBuilder(seed, (1, 3, 8, 8))
    x = builder.block(builder.quant("x", 8, signed=True), channels, act_bits=act_bits)
    x = builder.block(x, 2 * channels, act_bits=act_bits, bits=weight_bits, groups=groups)
    return builder.model(builder.conv(x, 5, 1, bits=8))


def pooled(
    seed: int = 0,
    *,
    kind: str = "max",
    channels: int = 16,
    size: tuple[int, int] = (9, 8),
    kernel: int = 3,
    stride: int = 2,
    pads: Sequence[int] = (1, 1, 1, 1),
    act_bits: int = 4,
) -> onnx.ModelProto:
    """Pooling between two convolutions; `kind` is max, average or global."""
    builder = GraphBuilder(seed, (1, 3, *size))
    x = builder.block(builder.quant("x", 8, signed=True), channels, act_bits=act_bits)
    window = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": list(pads)}
    if kind == "max":
        x = builder.node("MaxPool", [x], **window)
    elif kind == "average":
        x = builder.quant(builder.node("AveragePool", [x], count_include_pad=1, **window), 8)
    else:
        x = builder.quant(builder.node("GlobalAveragePool", [x]), 8)
        x = builder.node("Flatten", [x], channels, axis=1)
        return builder.model(builder.linear(x, channels, 10, bits=8))
    return builder.model(builder.conv(x, 7, bits=4, bias=True))


def elementwise(seed: int = 0, *, channels: int = 5) -> onnx.ModelProto:
    """Constants around an anchor, a requantized code, a zero point and 16-bit values."""
    builder = GraphBuilder(seed, (1, channels, 6, 6))
    x = builder.node("Mul", ["x", builder.constant(builder.rng.uniform(0.5, 2, (channels, 1, 1)))])
    x = builder.quant(x, 4, zero_point=5.0)
    y = builder.quant(x, 2, scale=0.7, signed=True)
    z = builder.conv(x, channels, bits=4)
    z = builder.node("Sub", [builder.constant(0.25), z], channels)
    z = builder.node("Div", [z, builder.constant(builder.rng.uniform(1, 2, (1, channels, 1, 1)))])
    z = builder.quant(z, 16, signed=True, scale=1e-3)
    return builder.model(builder.add(z, builder.conv(y, channels, 1, bits=4)))


# name -> builder of a model with default structure, for tests that run over all of them
GRAPHS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "conv_chain": conv_chain,
    "strided": lambda seed: conv_chain(seed, stride=2, pads=(1, 1, 1, 1)),
    "asymmetric": lambda seed: conv_chain(seed, pads=(0, 1, 2, 1)),
    "dilated": lambda seed: conv_chain(seed, dilation=2),
    "batch": lambda seed: conv_chain(seed, batch=3),
    "weights_1_acts_1": lambda seed: conv_chain(
        seed, channels=(3, 33, 17, 5), weight_bits=1, act_bits=1
    ),
    "weights_1_acts_bipolar": lambda seed: conv_chain(
        seed, channels=(3, 33, 17, 5), weight_bits=1, act_bits=BIPOLAR
    ),
    "weights_2_acts_2": lambda seed: conv_chain(
        seed, channels=(3, 33, 17, 5), weight_bits=2, act_bits=2
    ),
    "weights_8_acts_8": lambda seed: conv_chain(seed, weight_bits=8, act_bits=8),
    "weights_3_acts_6": lambda seed: conv_chain(seed, weight_bits=3, act_bits=6),
    "residual": residual,
    "residual_float": residual_float,
    "option_a": option_a,
    "mlp": mlp,
    "mlp_bipolar": lambda seed: mlp(seed, weight_bits=1, act_bits=BIPOLAR),
    "depthwise": depthwise,
    "grouped": grouped,
    "max_pool": pooled,
    "average_pool": lambda seed: pooled(seed, kind="average"),
    "global_pool": lambda seed: pooled(seed, kind="global"),
    "elementwise": elementwise,
}
