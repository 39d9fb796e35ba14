"""One exported network for all export tests: the export itself takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.export.standard import to_standard_onnx
from tests.export.networks import IMAGE, mixed_net


@pytest.fixture(scope="session")
def qonnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qonnx") / "model.qonnx.onnx"
    export_qonnx(mixed_net(), IMAGE, path)
    return path


@pytest.fixture(scope="session")
def standard_file(qonnx_file: Path) -> Path:
    path = qonnx_file.with_name("model.onnx")
    to_standard_onnx(qonnx_file, path)
    return path
