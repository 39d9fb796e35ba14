"""Kernels timed one by one are those of the compiled network."""

from __future__ import annotations

from pathlib import Path

import onnx
from networks.steps import time_steps

from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.target import load_target
from tests.targets import graphs


def test_every_kernel_is_timed(tmp_path: Path) -> None:
    source, target = tmp_path / "net.onnx", load_target("x86-64")
    onnx.save(graphs.residual(), source)
    report = compile_qonnx(source, target, tmp_path / "net.so").report
    steps = time_steps(source, target, None, rounds=3)
    assert [step.name for step in steps] == [step.name for step in report.steps]
    assert [step.kernel for step in steps] == [step.kernel for step in report.steps]
    convolutions = [step for step in steps if step.precision]
    assert convolutions
    for step in convolutions:
        assert len(step.samples_us) == 3
        assert step.macs > 0
        assert step.to_json()["gmacs"] == step.macs / step.median_us / 1e3
