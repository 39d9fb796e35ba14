"""compile, verify, measure and export, on files that this project did not make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mpqdeploy import cli
from mpqdeploy.core import ModelError
from mpqdeploy.export.bundle import verify_bundle
from mpqdeploy.loading import load
from tests.targets import graphs, wild


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(graphs.mlp(3), path)
    return path


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    out = model.parent / "bundle"
    assert run("compile", str(model), "--out", str(out), "-q") == 0
    return out


def test_compile_writes_a_whole_bundle(bundle: Path, model: Path) -> None:
    manifest = verify_bundle(bundle)
    assert manifest.name == "net"
    assert {"model.qonnx.onnx", "model.onnx", "model.so", "policy.json", "README.md"} == set(
        manifest.files
    )
    policy = json.loads((bundle / "policy.json").read_text())["precisions"]
    assert len(policy) == 3
    assert manifest.compilation["library_bytes"] == (bundle / "model.so").stat().st_size
    assert (bundle / "model.qonnx.onnx").read_bytes() == model.read_bytes()


def test_verify_holds_and_counts(
    bundle: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(model), str(bundle), "--samples", "3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holds"]
    assert {"library", "onnxruntime"} <= set(found["layers"])
    assert all(layer["errors"] == 0 for layers in found["layers"].values() for layer in layers)
    assert all(pair["samples"] == 3 for pair in found["predictions"])


def test_a_bundle_for_two_threads_runs_on_two(
    bundle: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "two"
    target = "x86-64"  # named targets are compiled for as many threads as asked
    options = ("--out", str(out), "--target", target, "--threads", "2", "-q")
    assert run("compile", str(model), *options) == 0
    shipped, alone = load(out), load(bundle)
    assert shipped.manifest.requirements.threads == shipped.manifest.compilation["threads"] == 2
    assert alone.manifest.requirements.threads == 1
    x = np.random.default_rng(0).normal(size=shipped.manifest.inputs[0].shape).astype(np.float32)
    assert np.allclose(shipped(x), alone(x), atol=1e-4)
    capsys.readouterr()
    assert run("measure", str(out), "--samples", "5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["threads"] == 2
    assert run("measure", str(out), "--threads", "1") == 2
    assert "was compiled for 2 thread(s)" in capsys.readouterr().err


def test_verify_tells_another_network(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(graphs.mlp(4), other)
    assert run("verify", str(other), str(bundle), "--samples", "2", "-q") == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out


def test_measure_gives_an_interval(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("measure", str(bundle), "--samples", "5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    low, high = found["interval_us"]
    assert 0 < low <= found["median_us"] <= high
    assert run("measure", str(bundle), "--samples", "5", "-q") == 0
    assert "95% interval" in capsys.readouterr().out


def test_export_runs_in_onnxruntime(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "standard.onnx"
    assert run("export", str(model), "--out", str(out), "--json") == 0
    onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])


def test_what_cannot_be_compiled_leaves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:1000])
    out = tmp_path / "out"
    for path in (cut, tmp_path / "nowhere.onnx"):
        assert run("compile", str(path), "--out", str(out), "-q") == 2
        err = capsys.readouterr().err
        assert path.name in err
        assert err.count("\n") == 1
    assert not out.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    assert run("compile", str(model), "--out", str(mine), "-q") == 2
    assert "is no bundle" in capsys.readouterr().err
    assert run("compile", str(model), "--out", str(out), "--target", "tpu", "-q") == 2
    assert "unknown target 'tpu'" in capsys.readouterr().err


def test_a_tampered_bundle_is_refused(
    bundle: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    data = (copy / "model.so").read_bytes()
    (copy / "model.so").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for arguments in (["measure", str(copy)], ["verify", str(model), str(copy)]):
        assert run(*arguments, "-q") == 2
        assert "model.so differs from what was shipped" in capsys.readouterr().err


def test_compile_can_tune_first(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path / 'latency.sqlite'}"
    arguments = ("--tune", "--store", store, "--json")
    assert run("compile", str(model), "--out", str(tmp_path / "tuned"), *arguments) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    layers = [step for step in steps if step["precision"]]
    assert layers
    assert all(step["measured"] for step in layers)


def test_compile_with_a_store_that_is_none_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compile", str(model), "--out", str(tmp_path / "b"), "--store", "nonsense") == 2
    assert "nonsense" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_file_in_the_wild(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes on floats are named; a batch that the file leaves open is what --batch says."""
    network = wild.network(wild.WILD["softmax"], batch=1)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(network, tmp_path / "wild.onnx")
    out = tmp_path / "bundle"
    assert run("compile", str(tmp_path / "wild.onnx"), "--out", str(out), "--batch", "2") == 0
    assert "not on integers: Softmax 'Softmax_6' in float32" in capsys.readouterr().out
    manifest = verify_bundle(out)
    assert manifest.inputs[0].shape[0] == 2
    notes = [note for step in manifest.compilation["steps"] for note in step["fallback"]]
    assert len(notes) == 1
    model = load(out)
    x = np.random.default_rng(0).normal(size=(3, 3, 6, 8)).astype(np.float32)
    assert model(x).shape == (3, 5, 6, 8)
    assert run("verify", str(tmp_path / "wild.onnx"), str(out), "--samples", "2", "-q") == 0


def test_a_bundle_without_standard_onnx(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library does not depend on what standard ONNX can say."""

    def refuse(*_: object) -> None:
        raise ModelError("node 'odd' is beyond standard ONNX.")

    monkeypatch.setattr("mpqdeploy.verbs.compile.to_standard_onnx", refuse)
    onnx.save(graphs.mlp(3), tmp_path / "net.onnx")
    out = tmp_path / "bundle"
    assert run("compile", str(tmp_path / "net.onnx"), "--out", str(out)) == 0
    assert "no model.onnx: node 'odd' is beyond" in capsys.readouterr().err
    assert "model.onnx" not in verify_bundle(out).files
    assert run("verify", str(tmp_path / "net.onnx"), str(out), "--samples", "2", "-q") == 0
