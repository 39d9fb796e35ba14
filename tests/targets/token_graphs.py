"""Small random QONNX graphs of tokens `[N, T, F]`: products over the last axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.targets.graphs import BIPOLAR, GraphBuilder

Build = Callable[[GraphBuilder, str], str]


def matrix(builder: GraphBuilder, x: str, inner: int, out: int, *, bits: int = 4) -> str:
    """`x @ W`, W quantized `[out, inner]` and turned, as Brevitas exports a linear layer."""
    weights = builder.node("Transpose", [builder.weights((out, inner), bits)], perm=[1, 0])
    return builder.node("MatMul", [x, weights], out)


def biased(builder: GraphBuilder, x: str, out: int, *, quantized: bool = False) -> str:
    bias = builder.constant(builder.rng.normal(0, 0.3, out))
    if quantized:
        bias = builder.quant(bias, 8, signed=True, scale=0.01)
    return builder.add(x, bias)


def mlp(builder: GraphBuilder, x: str) -> str:
    """Two layers, scales per feature, a quantized bias."""
    x = biased(builder, matrix(builder, x, 10, 17), 17)
    scale = builder.rng.uniform(0.1, 0.2, (1, 1, 17))
    x = builder.quant(builder.node("Relu", [x]), 4, scale=np.full((1, 1, 1), scale.mean()))
    x = biased(builder, matrix(builder, x, 17, 9), 9, quantized=True)
    factor = builder.constant(builder.rng.uniform(0.5, 1.5, 9))
    return builder.quant(builder.node("Mul", [x, factor]), 8, signed=True)


def mixer(builder: GraphBuilder, x: str) -> str:
    """Features of every token, then tokens of every feature, each with a residual sum."""
    inner = builder.quant(matrix(builder, x, 10, 12), 4, signed=True)
    x = builder.quant(builder.add(x, matrix(builder, inner, 12, 10)), 8, signed=True)
    turned = builder.node("Transpose", [x], perm=[0, 2, 1])
    mixed = builder.quant(biased(builder, matrix(builder, turned, 6, 6), 6), 8, signed=True)
    back = builder.node("Transpose", [mixed], perm=[0, 2, 1])
    return builder.quant(builder.add(x, back), 8, signed=True)


def classifier(builder: GraphBuilder, x: str) -> str:
    """The mean of all tokens, and a layer behind it."""
    x = builder.quant(builder.relu(matrix(builder, x, 10, 33)), 4)
    x = builder.node("ReduceMean", [x], axes=[1], keepdims=0)
    return builder.linear(builder.quant(x, 8), 33, 5)


def mean(builder: GraphBuilder, x: str) -> str:
    """Of tokens that no product comes before."""
    x = builder.node("ReduceMean", [x], axes=[1], keepdims=0)
    return builder.linear(builder.quant(x, 8, signed=True), 10, 5)


def chances(builder: GraphBuilder, x: str) -> str:
    return builder.node("Softmax", [biased(builder, matrix(builder, x, 10, 7), 7)], axis=-1)


def flattened(builder: GraphBuilder, x: str) -> str:
    """What is behind the product has to see its features last."""
    x = builder.quant(matrix(builder, x, 10, 8), 4, signed=True)
    return builder.linear(builder.node("Flatten", [x]), 48, 5)


def signs(builder: GraphBuilder, x: str) -> str:
    x = builder.quant(matrix(builder, x, 10, 64, bits=1), BIPOLAR)
    return matrix(builder, x, 64, 12, bits=1)


def clipped(builder: GraphBuilder, x: str) -> str:
    """Clip with an omitted bound, a sum of a tensor with itself, a mean that keeps its axis."""
    x = matrix(builder, x, 10, 8)
    x = builder.node("Clip", [x, "", builder.constant(1.5)])
    x = builder.quant(builder.add(x, x), 8, signed=True)
    return builder.node("ReduceMean", [x], axes=[1], keepdims=1)


def block(builder: GraphBuilder, x: str) -> str:
    """As a transformer's: normalized, two layers with an error function between, residual."""
    y = builder.quant(matrix(builder, x, 10, 12), 8, signed=True)
    scale, bias = (builder.constant(builder.rng.uniform(0.2, 1.0, 12)) for _ in range(2))
    normal = builder.node("LayerNormalization", [y, scale, bias])
    inner = biased(builder, matrix(builder, builder.quant(normal, 4, signed=True), 12, 24), 24)
    probable = builder.node("Erf", [builder.node("Mul", [inner, builder.constant(0.7071)])])
    half = builder.node("Mul", [inner, builder.constant(0.5)])
    product = builder.node("Mul", [half, builder.add(probable, builder.constant(1.0))])
    inner = builder.quant(product, 4, signed=True)
    return builder.quant(builder.add(y, matrix(builder, inner, 24, 12)), 8, signed=True)


def attention(builder: GraphBuilder, x: str) -> str:
    """Two heads of 5 features, queries, keys and values of a product each."""

    def heads(perm: list[int]) -> str:
        y = builder.quant(matrix(builder, x, 10, 10), 8, signed=True)
        y = builder.node("Reshape", [y, builder.constant(np.array([0, 6, 2, 5]), np.int64)])
        return builder.node("Transpose", [y], perm=perm)

    return attended(builder, x, heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3]))


def taken(builder: GraphBuilder, x: str, index: int) -> str:
    """One index of the first axis, as a Slice and a Squeeze."""
    bounds = (builder.constant([place], np.int64) for place in (index, index + 1, 0))
    return builder.node(
        "Squeeze", [builder.node("Slice", [x, *bounds]), builder.constant([0], np.int64)]
    )


def joint_attention(builder: GraphBuilder, x: str) -> str:
    """Queries, keys and values of one product: five axes, of which the batch is not the first."""
    y = biased(builder, matrix(builder, x, 10, 30), 30)
    y = builder.node("Reshape", [y, builder.constant(np.array([0, 6, 3, 2, 5]), np.int64)])
    y = builder.node("Transpose", [y], perm=[2, 0, 3, 1, 4])
    queries = builder.node("Gather", [y, builder.constant(np.array(0), np.int64)], axis=0)
    parts = (queries, taken(builder, y, 1), taken(builder, y, 2))
    queries, keys, values = (builder.quant(part, 8, signed=True) for part in parts)
    keys = builder.node("Transpose", [keys], perm=[0, 1, 3, 2])
    return attended(builder, x, queries, keys, values)


def attended(builder: GraphBuilder, x: str, queries: str, keys: str, values: str) -> str:
    """Queries with keys, chances of those, with values."""
    scores = builder.node("MatMul", [queries, keys])
    scores = builder.node("Mul", [scores, builder.constant(0.447)])
    chances = builder.quant(builder.node("Softmax", [scores], axis=-1), 8, scale=1 / 255)
    y = builder.node("Transpose", [builder.node("MatMul", [chances, values])], perm=[0, 2, 1, 3])
    y = builder.node("Reshape", [y, builder.constant(np.array([0, 6, 10]), np.int64)])
    y = matrix(builder, builder.quant(y, 4, signed=True), 10, 10)
    return builder.quant(builder.add(x, y), 8, signed=True)


def model(build: Build, shape: tuple[int, ...] = (1, 6, 10)) -> onnx.ModelProto:
    builder = GraphBuilder(3, shape)
    return builder.model(build(builder, builder.quant("x", 8, signed=True)))


BUILDS = [
    mlp,
    mixer,
    classifier,
    chances,
    flattened,
    signs,
    clipped,
    mean,
    block,
    attention,
    joint_attention,
]
