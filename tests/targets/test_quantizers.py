"""Quantizers in all their forms: rounding modes, Trunc, MultiThreshold, former domains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.targets import graphs
from tests.targets.agreeing import agrees, runs
from tests.targets.graphs import GraphBuilder
from tests.targets.wild import Build, network

ROUNDINGS = ("ROUND", "FLOOR", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN", "HALF_EVEN")


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("signed", "zero_point"), [(True, -2.0), (False, 5.0), (True, 0.5)])
def test_every_rounding_mode_at_ties(rounding: str, signed: bool, zero_point: float) -> None:
    """Values that lie on halves and whole numbers exactly, so that every tie counts."""
    builder = GraphBuilder(3, (1, 3, 6, 6))
    x = builder.quant("x", 6, scale=0.25, signed=True)
    x = builder.node("Mul", [x, builder.constant(2.0)])
    y = builder.quant(x, 4, scale=1.0, signed=signed, zero_point=zero_point, rounding=rounding)
    agrees(builder.model(builder.conv(y, 5, pads=(1, 0, 2, 1))))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding_mode_compiles(rounding: str, tmp_path: Path) -> None:
    builder = GraphBuilder(4, (1, 3, 6, 6))
    x = builder.quant("x", 6, scale=0.25, signed=True)
    y = builder.quant(x, 4, scale=0.5, signed=True, rounding=rounding)
    z = builder.batchnorm(builder.conv(y, 17))
    z = builder.quant(z, 3, signed=True, rounding=rounding)
    runs(builder.model(builder.conv(z, 5)), tmp_path)


def trunc(
    builder: GraphBuilder, x: str, *, bits: float = 8.0, output: float = 4.0, **attributes: object
) -> str:
    """Version 1: an average of 4-bit codes times 4, as Brevitas' TruncAvgPool2d exports it."""
    y = builder.quant(x, 6, scale=0.25)
    y = builder.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
    y = builder.node("Mul", [y, builder.constant(4.0)])
    parameters = [builder.constant(value) for value in (0.25, 0.0, bits, output)]
    return builder.node("Trunc", [y, *parameters], 6, **attributes)


@pytest.mark.parametrize("rounding", ["FLOOR", "ROUND", "HALF_UP", "CEIL"])
def test_trunc(rounding: str) -> None:
    def build(builder: GraphBuilder, x: str) -> str:
        return trunc(builder, x, rounding_mode=rounding)

    program = agrees(network(build))
    assert not any(step.fallback for step in program.steps)


def test_trunc_compiles(tmp_path: Path) -> None:
    builder = GraphBuilder(5, (2, 3, 6, 8))
    x = builder.block(builder.quant("x", 8, signed=True), 6)
    runs(builder.model(builder.conv(trunc(builder, x), 5, 1)), tmp_path)


def test_trunc_of_version_2() -> None:
    def build(builder: GraphBuilder, x: str) -> str:
        y = builder.quant(x, 6, scale=0.25, zero_point=8.0)
        values = (0.25, 8.0, 6.0, 1.0, 3.0)
        parameters = [builder.constant(value) for value in values]
        return builder.node("Trunc", [y, *parameters], 6, signed=0, rounding_mode="HALF_UP")

    model = network(build)
    model.opset_import[1].version = 2
    agrees(model)


def thresholds(steps: int, channels: int, **attributes: object) -> Build:
    def build(builder: GraphBuilder, x: str) -> str:
        y = builder.batchnorm(builder.conv(x, 6))
        table = np.sort(builder.rng.normal(0, 1, (channels, steps)), axis=1)
        return builder.node("MultiThreshold", [y, builder.constant(table)], 6, **attributes)

    return build


@pytest.mark.parametrize(
    ("steps", "channels", "scale", "bias"),
    [(1, 6, 2.0, -1.0), (3, 1, 1.0, 0.0), (15, 6, 0.5, -4.0), (15, 6, 1.0, -8.0), (7, 6, 1.0, 0.3)],
)
def test_multi_threshold(steps: int, channels: int, scale: float, bias: float) -> None:
    build = thresholds(steps, channels, out_dtype="INT8", out_scale=scale, out_bias=bias)
    agrees(network(build))


def test_multi_threshold_compiles(tmp_path: Path) -> None:
    builder = GraphBuilder(6, (1, 3, 6, 8))
    x = builder.block(builder.quant("x", 8, signed=True), 6)
    x = thresholds(15, 6, out_dtype="UINT4", out_scale=0.2)(builder, x)
    x = thresholds(1, 6, out_dtype="BIPOLAR", out_scale=2.0, out_bias=-1.0)(builder, x)
    runs(builder.model(builder.conv(x, 5, 1)), tmp_path, "x86-64-avx2")


@pytest.mark.parametrize("domain", ["onnx.brevitas", "finn.custom_op.general", "finn", "qonnx", ""])
def test_former_domains(domain: str) -> None:
    model = network(thresholds(7, 6, out_dtype="UINT3"))
    for entry in [*model.graph.node, *model.opset_import]:
        if entry.domain == graphs.DOMAIN:
            entry.domain = domain or "onnx.brevitas"
    if not domain:
        for node_ in model.graph.node:
            node_.domain = ""
    agrees(model)
