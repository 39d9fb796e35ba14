"""compile, verify, measure and export, on files that this project did not make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import onnxruntime
import pytest

from mpqdeploy import cli
from mpqdeploy.export.bundle import verify_bundle
from tests.targets import graphs


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
