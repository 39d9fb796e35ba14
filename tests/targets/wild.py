"""Networks around one operator each, of the operators that files in the wild have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.targets.graphs import GraphBuilder

Build = Callable[[GraphBuilder, str], str]  # from a code of 6 channels, 6 x 8 pixels


def network(build: Build, *, bits: int = 4, seed: int = 0, batch: int = 2) -> onnx.ModelProto:
    """A convolution, `build` on its code, a quantizer and a convolution."""
    builder = GraphBuilder(seed, (batch, 3, 6, 8))
    x = builder.block(builder.quant("x", 8, signed=True), 6, act_bits=bits)
    y = build(builder, x)
    output = builder.conv(builder.quant(y, 4, signed=True), 5, 1, bits=4)
    return builder.model(
        output, opset=20 if any(n.op_type == "Gelu" for n in builder.nodes) else 17
    )


def node(op: str, *constants: object, channels: int = 0, **attributes: object) -> Build:
    """One node on the code, with float32 constants (int64 where they are integers)."""

    def build(builder: GraphBuilder, x: str) -> str:
        names = []
        for value in constants:
            array = np.asarray(value)
            kind = np.int64 if array.dtype.kind == "i" else np.float32
            names.append(builder.constant(array, kind))
        return builder.node(op, [x, *names], channels, **attributes)

    return build


def concat(*makers: Build, axis: int = 1, channels: int = 0) -> Build:
    def build(builder: GraphBuilder, x: str) -> str:
        return builder.node("Concat", [make(builder, x) for make in makers], channels, axis=axis)

    return build


def chain(*makers: Build) -> Build:
    def build(builder: GraphBuilder, x: str) -> str:
        for make in makers:
            x = make(builder, x)
        return x

    return build


def same(builder: GraphBuilder, x: str) -> str:
    return x


def other_scale(builder: GraphBuilder, x: str) -> str:
    return builder.quant(x, 3, scale=0.31)


def shifted(builder: GraphBuilder, x: str) -> str:
    return builder.quant(x, 4, scale=0.2, zero_point=3.0)


def convolved(builder: GraphBuilder, x: str) -> str:
    return builder.batchnorm(builder.conv(x, 4, bits=4))


def excitation(builder: GraphBuilder, x: str) -> str:
    """Squeeze and excitation: a product of an image and one number per channel."""
    y = builder.quant(builder.node("GlobalAveragePool", [x]), 8)
    y = builder.node("Sigmoid", [builder.conv(y, 6, 1, bits=4)], 6)
    return builder.node("Mul", [x, y])


def bias_of_a_channel(builder: GraphBuilder, x: str) -> str:
    y = builder.conv(builder.quant(builder.node("GlobalMaxPool", [x]), 4), 6, 1)
    return builder.node("Add", [builder.conv(x, 6), y])


def float_weights(builder: GraphBuilder, x: str) -> str:
    weights = builder.constant(builder.rng.normal(size=(6, 3, 3, 3)) * 0.3)
    return builder.node("Conv", [x, weights], 6, pads=[1, 1, 1, 1], group=2, strides=[1, 2])


def erf_gelu(builder: GraphBuilder, x: str) -> str:
    """As exporters write it before opset 20."""
    y = convolved(builder, x)
    below = builder.node("Erf", [builder.node("Div", [y, builder.constant(np.sqrt(2))])])
    probable = builder.node("Add", [below, builder.constant(1.0)])
    product = builder.node("Mul", [y, probable])
    return builder.node("Mul", [product, builder.constant(0.5)], 4)


def features_last(builder: GraphBuilder, x: str) -> str:
    """ConvNeXt's: channels last, normalized, and back."""
    y = builder.node("Transpose", [convolved(builder, x)], perm=[0, 2, 3, 1])
    y = layer_norm(4, bias=True)(builder, y)
    return builder.node("Transpose", [y], 4, perm=[0, 3, 1, 2])


def layer_norm(*shape: int, bias: bool = False, **attributes: object) -> Build:
    """With its scale, and a bias, of this shape."""

    def build(builder: GraphBuilder, x: str) -> str:
        scale = builder.constant(builder.rng.uniform(0.5, 1.5, shape))
        inputs = [scale, *([builder.constant(builder.rng.normal(0, 0.2, shape))] if bias else [])]
        return builder.node("LayerNormalization", [x, *inputs], **attributes)

    return build


def shuffle(builder: GraphBuilder, x: str) -> str:
    """ShuffleNet's: reshape to groups, transpose, reshape."""
    y = builder.node("Reshape", [x, builder.constant([0, 2, 3, 6, 8], np.int64)])
    y = builder.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    return builder.node("Reshape", [y, builder.constant([0, 6, 6, 8], np.int64)], 6)


def resize_to_sizes(builder: GraphBuilder, x: str) -> str:
    sizes = builder.constant([2, 6, 12, 16], np.int64)
    return builder.node("Resize", [x, "", "", sizes], 6, mode="nearest")


def split(builder: GraphBuilder, x: str) -> str:
    """Unequal parts of the channels, joined the other way round."""
    first = builder.node("Split", [x, builder.constant([2, 4], np.int64)], 2, axis=1)
    second = f"{first}_second"
    builder.nodes[-1].output.append(second)
    return builder.node("Concat", [second, first], 6, axis=1)


def one_row(builder: GraphBuilder, x: str) -> str:
    """A 1-D convolution and pools of rows, as in networks on signals."""
    y = builder.node("Reshape", [x, builder.constant([0, 6, 48], np.int64)])
    weights = builder.weights((8, 3, 5), 4)
    y = builder.node("Conv", [y, weights], 8, strides=[2], pads=[1, 3], dilations=[2], group=2)
    y = builder.quant(builder.relu(y), 4)
    y = builder.node("MaxPool", [y], kernel_shape=[3], strides=[2], pads=[1, 1])
    y = builder.node("AveragePool", [y], kernel_shape=[2], strides=[2], pads=[0, 1])
    y = builder.quant(builder.node("Sigmoid", [y]), 4)
    array = builder.rng.normal(0, 0.4, (8, 8, 4))
    weights = builder.quant(builder.constant(array), 4, signed=True, narrow=True, scale=0.2)
    y = builder.node("ConvTranspose", [y, weights], 8, strides=[3], pads=[1, 2], output_padding=[1])
    return builder.node("Unsqueeze", [y, builder.constant([2], np.int64)], 8)


def products(builder: GraphBuilder, x: str) -> str:
    """Of computed matrices, one per channel, twice: as many rows as pixels, then their columns."""
    y = builder.node("Transpose", [convolved(builder, x)], perm=[0, 1, 3, 2])
    y = builder.node("MatMul", [builder.quant(y, 8, signed=True), convolved(builder, x)], 4)
    z = convolved(builder, x)
    return builder.node("MatMul", [z, builder.quant(builder.node("Softmax", [y], axis=-1), 8)], 4)


def constant_first(op: str, *shape: int) -> Build:
    """A constant that differs between pixels, before the code."""

    def build(builder: GraphBuilder, x: str) -> str:
        constant = builder.constant(builder.rng.normal(size=shape))
        return builder.node(op, [constant, x], builder.channels[x])

    return build


def joined_to_constants(builder: GraphBuilder, x: str) -> str:
    """A row before and a channel behind, as a class token stands before others."""
    sizes = (2, 6, 1, 8), (2, 1, 7, 8)
    row, channel = (builder.constant(builder.rng.normal(size=size)) for size in sizes)
    y = builder.node("Concat", [row, x], 6, axis=2)
    return builder.node("Concat", [y, channel], 7, axis=1)


SLICE_CHANNELS = ([1, 1], [5, 6], [1, 2], [2, 1])  # starts, ends, axes, steps
WILD: dict[str, Build] = {
    "sigmoid": node("Sigmoid"),
    "tanh": node("Tanh"),
    "exp": node("Exp"),
    "sqrt": node("Sqrt"),
    "relu6": node("Clip", 0.0, 6.0),
    "hard_tanh": node("Clip", -1.0, 1.0),
    "clip_below": node("Clip", -0.3),
    "clip_above": lambda builder, x: builder.node("Clip", [x, "", builder.constant(0.7)]),
    "hard_sigmoid": node("HardSigmoid", alpha=0.25, beta=0.4),
    "hard_swish": node("HardSwish"),
    "leaky_relu": chain(convolved, node("LeakyRelu", alpha=0.1)),
    "prelu": chain(convolved, node("PRelu", np.reshape([0.2, 0.3, 0.1, 0], (4, 1, 1)))),
    "elu": chain(convolved, node("Elu", alpha=0.7)),
    "erf": chain(convolved, node("Erf")),
    "erf_gelu": erf_gelu,
    "gelu": chain(convolved, node("Gelu")),
    "gelu_tanh": chain(convolved, node("Gelu", approximate="tanh")),
    "abs": chain(convolved, node("Abs")),
    "square": node("Pow", 2.0),
    "max": chain(convolved, node("Max", 0.25)),
    "softmax": node("Softmax", axis=1),
    "softmax_columns": chain(convolved, node("Softmax", axis=-1)),
    "log_softmax_rows": node("LogSoftmax", axis=2),
    "layer_norm_last": layer_norm(8, bias=True, epsilon=1e-3),
    "layer_norm_image": layer_norm(6, 6, 8, axis=1),
    "layer_norm_pixels": chain(convolved, layer_norm(1, 6, 8, bias=True, axis=-2)),
    "layer_norm_flat": chain(
        node("Flatten", channels=288),
        layer_norm(288, bias=True),
        node("Reshape", [0, 6, 6, 8], channels=6),
    ),
    "layer_norm_features": features_last,
    "log_softmax": node("LogSoftmax", axis=1),
    "products": products,
    "add_per_pixel": constant_first("Add", 1, 6, 6, 8),
    "add_per_image": chain(convolved, constant_first("Add", 2, 4, 6, 8)),
    "sub_per_column": constant_first("Sub", 8),
    "sub_per_row": node("Sub", np.linspace(-1, 1, 36).reshape(6, 6, 1)),
    "mul_per_column": chain(convolved, node("Mul", np.linspace(0.5, 2, 8))),
    "joined_to_constants": joined_to_constants,
    "gather_row": node("Gather", [-2], axis=2),
    "gather_channel": chain(
        node("Gather", np.array(3), axis=1), node("Reshape", [0, 1, 6, 8], channels=1)
    ),
    "mul_per_channel": node("Mul", np.linspace(0.5, 2, 6).reshape(6, 1, 1)),
    "concat_same_scale": concat(same, same, channels=12),
    "concat_other_scale": concat(same, other_scale, channels=12),
    "concat_zero_points": concat(shifted, shifted, channels=12),
    "concat_floats": concat(convolved, same, convolved, channels=14),
    "concat_rows": concat(same, other_scale, same, axis=2),
    "concat_columns": concat(convolved, convolved, axis=-1),
    "resize_2": node("Resize", np.zeros(0), [1.0, 1, 2, 2], mode="nearest"),
    "resize_3_2": node(
        "Resize",
        np.zeros(0),
        [1.0, 1, 3, 2],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "resize_sizes": resize_to_sizes,
    "resize_down": node("Resize", np.zeros(0), [1.0, 1, 0.5, 0.5], mode="nearest"),
    "space_to_depth": node("SpaceToDepth", channels=24, blocksize=2),
    "depth_to_space_dcr": chain(
        node("SpaceToDepth", channels=24, blocksize=2),
        node("DepthToSpace", channels=6, blocksize=2),
    ),
    "depth_to_space_crd": chain(
        node("SpaceToDepth", channels=24, blocksize=2),
        node("DepthToSpace", channels=6, blocksize=2, mode="CRD"),
    ),
    "slice_channels": node("Slice", *SLICE_CHANNELS, channels=2),
    "slice_first_channels": node("Slice", [0], [3], [1], [1], channels=3),
    "slice_a_channel": chain(node("Slice", [2], [3], [1], [1], channels=1), node("Sigmoid")),
    "split": split,
    "one_row": one_row,
    "slice_backwards": node("Slice", [-1], [-(2**31)], [3], [-1]),
    "transpose": chain(node("Transpose", perm=[0, 1, 3, 2])),
    "channel_shuffle": shuffle,
    "flat_features": chain(
        node("Flatten", channels=288),
        node("Mul", np.linspace(0.5, 2, 288)),
        node("Reshape", [0, 6, 6, 8], channels=6),
    ),
    "pad_then_add": chain(node("Pad", [0, 0, 1, 2, 0, 0, 0, 1]), node("Add", 0.4)),
    "crop": node("Pad", [0, 0, -1, 0, 0, 0, 0, -2]),
    "average_without_padding": node(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 0], strides=[2, 1]
    ),
    "average_of_floats": chain(
        convolved, node("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 1, 1])
    ),
    "max_of_floats": chain(
        node("Sigmoid"), node("MaxPool", kernel_shape=[3, 2], pads=[1, 0, 1, 1]), node("Add", 0.1)
    ),
    "mean_of_floats": chain(convolved, node("GlobalAveragePool")),
    "excitation": excitation,
    "bias_of_a_channel": bias_of_a_channel,
    "float_weights": float_weights,
    "shifted": shifted,
    "identity_cast": node("Cast", to=1),
}  # fmt: skip
