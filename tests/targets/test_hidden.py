"""A code that is not stored may lie on a threshold; a wrong one behind it is found all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mpqdeploy.targets import verify
from mpqdeploy.targets.library import Library
from tests.targets import graphs
from tests.targets.compiled import opened

STREAM_SCALE, INPUT_SCALE = 2.0, 1.0  # odd input codes lie half-way between two of the stream's
NEAR, FAR = 7.0, 8.0
PLACE = (0, 1, 2, 3)
# value, change, flips, errors
CHANGED = [(NEAR, 0.0, 0, 0), (NEAR, -1.0, 1, 0), (FAR, -1.0, 0, 1), (NEAR, 1.0, 0, 1)]


def network() -> tuple[onnx.ModelProto, str, tuple[str, str]]:
    """A stream that only two quantizers read; its name and theirs."""
    builder = graphs.GraphBuilder(0, (1, 16, 4, 4))
    stream = builder.quant(builder.quant("x", 8, scale=INPUT_SCALE), 8, scale=STREAM_SCALE)
    one, two = (builder.quant(stream, 8, scale=scale) for scale in (1.997, 1.001))
    y = builder.add(builder.conv(one, 16, bits=4), builder.conv(two, 16, bits=2))
    return builder.model(builder.quant(y, 8, signed=True)), stream, (one, two)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return opened(network()[0], folder)


def verified(
    library: Library,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, float],
    value: float,
) -> dict[str, tuple[int, int]]:
    """(flips, errors) by layer, where the library's codes at one place are off by `changes`."""
    sample = {"x": np.full((1, 16, 4, 4), FAR, np.float32)}
    sample["x"][0, 3, 1, 2] = value
    return compared(library, folder, monkeypatch, changes, sample)


def compared(
    library: Library,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, float],
    sample: dict[str, Any],
    place: tuple[int, int, int, int] = PLACE,
) -> dict[str, tuple[int, int]]:
    """The same, of any sample; what is changed is at image, row, column and channel `place`."""
    taken = verify._traced

    def traced(*args: Any) -> dict[str, Any]:
        values = taken(*args)
        for name, change in changes.items():
            values[name] = values[name].copy()
            values[name][place] += change
        return values

    monkeypatch.setattr(verify, "_traced", traced)
    layers = verify.verify_library(folder / "net.onnx", library, [sample])
    return {layer.name: (layer.flips, layer.errors) for layer in layers}


def test_the_stream_is_not_stored(library: Library) -> None:
    stored = {traced.buffer.tensor for traced in library.trace(library.random_inputs())}
    _, stream, readers = network()
    assert stream not in stored
    assert set(readers) <= stored


def test_a_code_on_a_threshold_may_fall_on_either_side(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 / 2 rounds to 4; on the other side are 3 and what the readers make of 3."""
    _, stream, (one, two) = network()
    found = verified(library, folder, monkeypatch, {one: -1, two: -2}, NEAR)
    assert found[stream] == (1, 0)
    assert found[one] == found[two] == (0, 0)


def test_readers_that_disagree_about_it_are_wrong(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream, (one, two) = network()
    found = verified(library, folder, monkeypatch, {one: -1}, NEAR)
    assert found[stream] == (1, 0)
    assert found[two] == (0, 1)


@pytest.mark.parametrize(("value", "change"), [(FAR, -1.0), (NEAR, 1.0), (NEAR, -2.0)])
def test_any_other_difference_is_an_error(
    value: float,
    change: float,
    library: Library,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, stream, (one, _) = network()
    found = verified(library, folder, monkeypatch, {one: change}, value)
    assert stream not in found
    assert found[one] == (0, 1)


def test_a_right_library_shows_no_hidden_flips(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = verified(library, folder, monkeypatch, {}, NEAR)
    assert set(found.values()) == {(0, 0)}


def pooled_network(*, stored: bool) -> tuple[onnx.ModelProto, tuple[str, str, str]]:
    """A convolution that takes the maxima of its sums; the stream's name, the maxima's, and a
    quantizer's that reads these. The maxima are stored where a sum reads them as well."""
    builder = graphs.GraphBuilder(0, (1, 16, 8, 8))
    x = builder.quant("x", 8, scale=INPUT_SCALE)
    same = builder.constant(np.eye(16, dtype=np.float32).reshape(16, 16, 1, 1))
    weights = builder.quant(same, 8, signed=True, scale=1.0)
    stream = builder.quant(
        builder.node("Conv", [x, weights], 16, kernel_shape=[1, 1]), 8, scale=2.0
    )
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    maxima = builder.node("MaxPool", [stream], 16, **window)
    reader = builder.quant(maxima, 8, scale=1.997)
    y = builder.conv(reader, 16, bits=4)
    y = builder.add(y, maxima) if stored else y
    return builder.model(builder.quant(y, 8, signed=True)), (stream, maxima, reader)


@pytest.mark.parametrize(("value", "change", "flips", "errors"), CHANGED)
@pytest.mark.parametrize("stored", [True, False])
def test_maxima_of_a_stream_that_is_not_stored(
    stored: bool,
    value: float,
    change: float,
    flips: int,
    errors: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The largest code of a window may lie on a threshold; any other difference is an error, of
    the maxima where these are stored, else of what reads them."""
    model, (stream, maxima, reader) = pooled_network(stored=stored)
    library = opened(model, tmp_path)
    traced = {traced.buffer.tensor for traced in library.trace(library.random_inputs())}
    assert stream not in traced
    assert (maxima in traced) == stored
    sample = {"x": np.ones((1, 16, 8, 8), np.float32)}
    sample["x"][0, 3, 2, 5] = value
    changes = {maxima: change, reader: change} if stored else {reader: change}
    found = compared(library, tmp_path, monkeypatch, changes, sample)
    hidden, first = (stream, maxima) if stored else (maxima, reader)
    assert found.get(hidden, (0, 0)) == (flips, 0)
    assert found[first] == (0, errors)


def turned_network(*, reshaped: bool) -> tuple[onnx.ModelProto, str, str]:
    """A stream that is stored with rows and columns exchanged only; its name and what is stored."""
    builder = graphs.GraphBuilder(0, (1, 16, 4, 4))
    stream = builder.quant(builder.quant("x", 8, scale=INPUT_SCALE), 8, scale=STREAM_SCALE)
    turned = builder.node("Transpose", [stream], 16, perm=[0, 1, 3, 2])
    if reshaped:
        flat = builder.node("Reshape", [turned, builder.constant([0, 16, 16], np.int64)])
        turned = builder.node("Reshape", [flat, builder.constant([0, 16, 4, 4], np.int64)], 16)
    y = builder.quant(builder.conv(turned, 16, bits=4), 8, signed=True)
    return builder.model(y), stream, turned


@pytest.mark.parametrize(("value", "change", "flips", "errors"), CHANGED)
@pytest.mark.parametrize("reshaped", [True, False])
def test_a_stream_that_is_stored_in_another_order(
    reshaped: bool,
    value: float,
    change: float,
    flips: int,
    errors: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, stream, turned = turned_network(reshaped=reshaped)
    library = opened(model, tmp_path)
    traced = {traced.buffer.tensor for traced in library.trace(library.random_inputs())}
    assert turned in traced
    assert stream not in traced
    sample = {"x": np.full((1, 16, 4, 4), FAR, np.float32)}
    sample["x"][0, 3, 2, 1] = value
    found = compared(library, tmp_path, monkeypatch, {turned: change}, sample)
    assert sum(layer[0] for layer in found.values()) == flips
    assert found[turned] == (0, errors)


@pytest.mark.parametrize(("value", "change", "flips", "errors"), CHANGED)
def test_a_stream_that_a_float_tensor_shows_under_another_name(
    value: float,
    change: float,
    flips: int,
    errors: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The left factor of a product of two computed tensors: matrices below each other."""
    builder = graphs.GraphBuilder(0, (1, 16, 4, 4))
    x = builder.quant("x", 8, scale=INPUT_SCALE)
    turned = builder.node("Transpose", [x], 16, perm=[0, 1, 3, 2])
    stream = builder.quant(turned, 8, scale=STREAM_SCALE)
    product = builder.node("MatMul", [stream, builder.conv(x, 16, bits=4)], 16)
    library = opened(builder.model(builder.quant(product, 8, signed=True)), tmp_path)
    left = f"{product}_left"
    traced = {traced.buffer.tensor for traced in library.trace(library.random_inputs())}
    assert left in traced
    assert stream not in traced
    sample = {"x": np.full((1, 16, 4, 4), FAR, np.float32)}
    sample["x"][0, 3, 2, 1] = value
    changes = {left: change * STREAM_SCALE}
    found = compared(library, tmp_path, monkeypatch, changes, sample, (0, 0, 3 * 4 + 1, 2))
    assert found[stream] == (flips, errors)
