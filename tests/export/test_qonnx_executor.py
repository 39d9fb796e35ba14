"""qonnx's executor on batches of any size, also where the graph names its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from mpqdeploy.core import ModelError
from mpqdeploy.export.qonnx_executor import QonnxExecutor, qonnx_reference
from tests.targets.graphs import GraphBuilder


def network(batch: int, *, named: bool) -> onnx.ModelProto:
    """A layer and a row of constants before it: joined, which names the batch, or added to zeros
    around it."""
    builder = GraphBuilder(0, (batch, 3, 4, 4))
    x = builder.quant(builder.conv(builder.quant("x", 8, signed=True), 4), 8, signed=True)
    row = np.tile(np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 1, 4), (batch, 1, 1, 1))
    if named:
        x = builder.node("Concat", [builder.constant(row), x], 4, axis=2)
    else:
        x = builder.node("Pad", [x, builder.constant([0, 0, 1, 0, 0, 0, 0, 0], np.int64)], 4)
        around = np.pad(row[:1], ((0, 0), (0, 0), (0, 4), (0, 0)))
        x = builder.node("Add", [x, builder.constant(around)])
    x = builder.conv(builder.quant(x, 8, signed=True, scale=0.05), 5)
    return builder.model(builder.quant(x, 8, signed=True))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_graph_that_names_its_batch_runs_in_such_batches(batch: int) -> None:
    images = np.random.default_rng(0).normal(size=(4, 3, 4, 4)).astype(np.float32)
    named = qonnx_reference(network(batch, named=True), images)
    free = qonnx_reference(network(batch, named=False), images)
    for got, tensor in zip(named.tensors.values(), free.tensors.values(), strict=True):
        np.testing.assert_array_equal(got.values, tensor.values)
        np.testing.assert_array_equal(got.before, tensor.before)
    for name, output in free.outputs.items():
        assert output.shape == (4, 5, 5, 4)
        np.testing.assert_array_equal(named.outputs[name], output)


def test_constants_are_as_they_were() -> None:
    executor = QonnxExecutor(network(1, named=True))
    one, three = (executor.context(np.ones((count, 3, 4, 4), np.float32)) for count in (1, 3))
    assert one.keys() == three.keys()
    for value in executor.model.graph.initializer:
        np.testing.assert_array_equal(one[value.name], three[value.name])


def test_samples_that_fill_no_batch_of_the_graph_are_refused() -> None:
    executor = QonnxExecutor(network(2, named=True))
    with pytest.raises(ModelError, match=r"batches of 2, it cannot run on 3 samples"):
        executor.context(np.ones((3, 3, 4, 4), np.float32))
