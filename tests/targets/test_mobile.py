"""Networks of the families: all of their layers compile to integer kernels, and are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate, sites
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.verify import verify_library
from tests.nn.executor import randomise_batchnorm
from tests.targets.compiled import target_here

# Depthwise kernels of every size, with and without an expanding layer, a stage left out.
SHAPES: dict[str, dict[str, Any]] = {
    "3-5-7": {"kernels": [3, 5, 7], "expansions": [2, 1, 3], "repeats": [1, 1, 1]},
    "short": {"kernels": [3, 1, 5], "expansions": [1, 1, 1], "repeats": [0, 2, 1]},
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["8/8", "4/8", "2/2", "1/2", "1/1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_layer_is_an_integer_kernel_and_exact(
    shape: str, precision: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8), options=SHAPES[shape])
    net = build_quantized(spec, Policy.uniform(sites(spec), Precision.parse(precision)))
    randomise_batchnorm(net)
    images = torch.randn(8, *spec.image)
    calibrate(net, [images])
    source, library = tmp_path / "net.onnx", tmp_path / "net.so"
    export_qonnx(net.eval(), spec.image, source)
    report = compile_qonnx(source, target_here("x86-64-vnni"), library).report
    assert not [step for step in report.steps if step.fallback]
    depthwise = [step for step in report.steps if step.kernel == "depthwise"]
    assert len(depthwise) == sum(SHAPES[shape]["repeats"])
    opened = Library(library)
    name = opened.inputs[0].name
    layers = verify_library(source, opened, [{name: image[None].numpy()} for image in images[:2]])
    assert sum(layer.errors for layer in layers) == 0
