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
    taken = verify._traced

    def traced(*args: Any) -> dict[str, Any]:
        values = taken(*args)
        for name, change in changes.items():
            values[name] = values[name].copy()
            values[name][0, 1, 2, 3] += change
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
