"""The check that finds a wrong library: it is tested on libraries that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mpqdeploy.core import ModelError
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.verify import verify_library
from tests.targets import graphs
from tests.targets.compiled import opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return opened(network(), folder)


def network() -> onnx.ModelProto:
    return graphs.residual(4)


def altered(kind: str, index: int) -> tuple[onnx.ModelProto, str]:
    """The network with one initializer changed, and the changed node's output."""
    model = network()
    names = [node.name for node in model.graph.node if node.op_type == kind]
    node = next(node for node in model.graph.node if node.name == names[index])
    if kind == "Conv":
        producer = next(n for n in model.graph.node if n.output[0] == node.input[1])
        initializer = next(i for i in model.graph.initializer if i.name == producer.input[0])
        array = numpy_helper.to_array(initializer).copy()
        largest = np.unravel_index(np.abs(array).argmax(), array.shape)
        array[largest] *= -1  # one weight of thousands
    else:
        initializer = next(i for i in model.graph.initializer if i.name == node.input[2])
        array = numpy_helper.to_array(initializer).copy()
        array[0] += 0.5  # one channel's bias
    initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
    return model, node.output[0]


def first_behind(model: onnx.ModelProto, tensor: str, names: list[str]) -> str:
    """The first tensor of `names` downstream of `tensor`: a kernel may hold several nodes."""
    while tensor not in names:
        reader = next(node for node in model.graph.node if tensor in node.input)
        tensor = reader.output[0]
    return tensor


def test_a_right_library_has_no_errors(library: Library, folder: Path) -> None:
    samples = [library.random_inputs(seed) for seed in range(3)]
    layers = verify_library(folder / "net.onnx", library, samples)
    assert len(layers) == 7  # input, first block, twice the inner codes and the sum's, output
    assert all(layer.holds for layer in layers)
    assert layers[0].elements == 3 * 3 * 8 * 8
    assert sum(layer.flips for layer in layers) < 0.001 * sum(layer.elements for layer in layers)


@pytest.mark.parametrize(("kind", "index"), [("Conv", 1), ("Conv", 4), ("BatchNormalization", 2)])
def test_one_wrong_number_is_found_where_it_is(
    kind: str, index: int, library: Library, tmp_path: Path
) -> None:
    """And nowhere else: the layers behind it are compared on the library's own codes."""
    model, tensor = altered(kind, index)
    onnx.save(model, tmp_path / "other.onnx")
    layers = verify_library(tmp_path / "other.onnx", library, [library.random_inputs(0)])
    where = first_behind(model, tensor, [layer.name for layer in layers])
    assert [layer.name for layer in layers if not layer.holds] == [where]


def test_a_wrong_weight_before_the_output_is_found(library: Library, tmp_path: Path) -> None:
    model = network()
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    bias = next(i for i in model.graph.initializer if i.name == last.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[0] += 1e-2
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "other.onnx")
    layers = verify_library(tmp_path / "other.onnx", library, [library.random_inputs(0)])
    assert [layer.name for layer in layers if not layer.holds] == ["y"]


def test_the_file_of_another_network_is_refused(library: Library, tmp_path: Path) -> None:
    onnx.save(graphs.mlp(0, image=(3, 8, 8)), tmp_path / "mlp.onnx")
    with pytest.raises(ModelError, match=r"compiled from|tensor") as caught:
        verify_library(tmp_path / "mlp.onnx", library, [library.random_inputs(0)])
    assert "Verify with the file" in caught.value.hint


@pytest.mark.parametrize("target", ["x86-64-vnni", "x86-64"])
def test_sums_past_int32_hold(target: str, tmp_path: Path) -> None:
    """All codes and weights are positive."""
    builder = graphs.GraphBuilder(0, (1, 90_000, 1, 1))
    x = builder.quant("x", 8, scale=0.005)
    weights = builder.constant(np.random.default_rng(0).uniform(110.0, 127.0, (20, 90_000, 1, 1)))
    weights = builder.quant(weights, 8, signed=True, scale=1.0)
    y = builder.node("Conv", [x, weights], 20, kernel_shape=[1, 1])
    y = builder.quant(y, 8, scale=2.0**16)
    library = opened(builder.model(y), tmp_path, target)
    inputs = {name: 10 * np.abs(array) for name, array in library.random_inputs().items()}
    assert all(layer.holds for layer in verify_library(tmp_path / "net.onnx", library, [inputs]))
    assert library.run(inputs)["y"].max() / 0.005 > 2**31
