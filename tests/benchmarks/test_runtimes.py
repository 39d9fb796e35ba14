"""The command, on the smallest network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "runtimes.py"


@pytest.mark.slow
def test_a_table_and_its_json(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "table.json"
    options = ["--network", "resnet20", "--policies", "8/8", "--no-tune", "--seconds", "0.1"]
    files = ["--work", str(tmp_path / "work"), "--json", str(out)]
    command = [sys.executable, str(SCRIPT), *options, *files, "--breakdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(out.read_text())
    found = document["networks"]["resnet20"]
    assert [row["runtime"] for row in found["rows"]] == ["onnxruntime", "openvino", "mpqdeploy"]
    assert all(row["median_us"] > 0 for row in found["rows"])
    assert found["making"][0]["flips"] is not None
    assert len(found["breakdown"][0]["steps"]) == len(found["making"][0]["kernels"])
    assert "resnet20: 41 MMAC" in done.stdout
    assert "Against the aims" in done.stdout
    measured = [aim["precision"] for aim in document["aims"] if aim["met"] is not None]
    assert measured == ["8/8"]


@pytest.mark.slow
def test_a_network_that_fails_is_an_error(tmp_path: Path) -> None:
    """Its file is not what it should be; the document is written all the same."""
    out = tmp_path / "table.json"
    (tmp_path / "work" / "resnet20").mkdir(parents=True)
    (tmp_path / "work" / "resnet20" / "8-8.qonnx.onnx").write_text("no model")
    options = ["--network", "resnet20", "--policies", "8/8", "--no-tune", "--breakdown-only"]
    command = [sys.executable, str(SCRIPT), *options, "--work", str(tmp_path / "work")]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(out.read_text())["networks"] == {}
    assert "resnet20: " in done.stderr
