from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import BundleError, ModelError
from mpqdeploy.targets.codec import decode
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from tests.targets import graphs
from tests.targets.compiled import opened
from tests.targets.fakes import scale_library


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return opened(graphs.conv_chain(0), folder)


def test_a_library_describes_its_ports(library: Library) -> None:
    assert [(port.name, port.shape) for port in library.inputs] == [("x", (1, 3, 9, 8))]
    assert [(port.name, port.shape) for port in library.outputs] == [("y", (1, 8, 9, 8))]


@pytest.mark.parametrize("compiled_for", [1, 3])
def test_any_batch_runs(compiled_for: int, tmp_path: Path) -> None:
    """In batches of the compiled size; a sample's result does not depend on its neighbours."""
    library = opened(graphs.conv_chain(0, batch=compiled_for), tmp_path)
    x = np.random.default_rng(0).normal(size=(7, 3, 9, 8)).astype(np.float32)
    whole = library.run({"x": x})["y"]
    assert whole.shape == (7, 8, 9, 8)
    assert library.run({"x": x[:2]})["y"].shape == (2, 8, 9, 8)
    for index in range(7):
        one = library.run({"x": np.repeat(x[index : index + 1], compiled_for, axis=0)})["y"]
        np.testing.assert_array_equal(one[0], whole[index])


def test_results_belong_to_the_caller(library: Library) -> None:
    """A second run does not write into the first one's arrays, nor into its inputs."""
    first_inputs = library.random_inputs(1)
    kept = {name: array.copy() for name, array in first_inputs.items()}
    first = library.run(first_inputs)
    copy = first["y"].copy()
    second = library.run(library.random_inputs(2))
    np.testing.assert_array_equal(first["y"], copy)
    assert not np.array_equal(first["y"], second["y"])
    np.testing.assert_array_equal(first_inputs["x"], kept["x"])
    assert first["y"].dtype == np.float32
    assert first["y"].flags.writeable


def test_any_memory_order_and_type_gives_the_same(library: Library) -> None:
    x = library.random_inputs(1)["x"]
    expected = library.run({"x": x})["y"]
    spread = np.zeros((1, 3, 18, 16), np.float32)[:, :, ::2, ::2]
    spread[...] = x
    for other in (np.asfortranarray(x), spread, x.astype(np.float64)):
        np.testing.assert_array_equal(library.run({"x": other})["y"], expected)


def test_trace_shows_the_codes_of_every_layer(library: Library, folder: Path) -> None:
    inputs = library.random_inputs(1)
    program = integerize(normalize(folder / "net.onnx"))
    traced = {item.buffer.tensor: item for item in library.trace(inputs)}
    assert set(traced) == {output.tensor for step in program.steps for output in step.outputs}
    for name, item in traced.items():
        tensor = program.tensors[name]
        codes = decode(tensor, item.buffer.layout, item.array)
        assert codes.shape == tensor.shape
        if tensor.grid is not None:
            assert tensor.grid.low <= codes.min() < codes.max() <= tensor.grid.high
    last = traced[program.outputs[0].tensor].array
    np.testing.assert_array_equal(last, library.run(inputs)["y"])


def test_bound_runs_on_its_inputs(library: Library) -> None:
    inputs = library.random_inputs(4)
    call = library.bound(inputs)
    expected = library.run(inputs)["y"]
    inputs["x"][...] = 0  # bound to what they were
    result = call()
    np.testing.assert_array_equal(np.from_dlpack(result[0]).reshape(expected.shape), expected)


def test_flat_ports(tmp_path: Path) -> None:
    """A model from features to logits has ports without height and width."""
    builder = graphs.GraphBuilder(0, (1, 20))
    x = builder.quant("x", 8, signed=True)
    model = builder.model(builder.linear(x, 20, 7, bits=4))
    library = opened(model, tmp_path)
    assert library.inputs[0].shape == (1, 20)
    assert library.run(library.random_inputs())["y"].shape == (1, 7)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((1, 3, 9, 8)), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros((1, 3, 8, 9))}, r"'x' has shape \[1, 3, 8, 9\]"),
        ({"x": np.zeros((2, 3, 9, 7))}, r"takes \[1, 3, 9, 8\]"),
        ({"x": np.zeros((0, 3, 9, 8))}, r"takes \[1, 3, 9, 8\]"),
        ({"x": np.zeros(216)}, "has shape"),
    ],
)
def test_a_wrong_input_is_named(library: Library, inputs: dict[str, object], words: str) -> None:
    for call in (library.run, library.trace, library.bound):
        with pytest.raises(ModelError, match=words):
            call(inputs)  # type: ignore[arg-type]


def test_what_is_no_library_of_this_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.so does not exist"):
        Library(tmp_path / "absent.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(BundleError, match=r"text\.so is not a library"):
        Library(text)
    with pytest.raises(BundleError, match=r"scale\.so is not a library that mpqdeploy compiled"):
        Library(scale_library(tmp_path / "scale.so"))
