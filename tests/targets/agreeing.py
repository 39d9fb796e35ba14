"""A model's program, and its library, against qonnx's executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from qonnx.core.onnx_exec import execute_onnx

from mpqdeploy.targets import reference
from mpqdeploy.targets.compile import Compiled
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Program
from mpqdeploy.targets.verify import verify_library
from tests.targets import flips
from tests.targets.compiled import compiled


def agrees(model: onnx.ModelProto, seed: int = 0) -> Program:
    """Check every tensor on identical inputs, every output, and that no node was lost."""
    normal = normalize(model)
    program = integerize(normal)
    rng = np.random.default_rng(seed)
    inputs = {port.name: rng.normal(size=port.shape).astype(np.float32) for port in program.inputs}
    context = execute_onnx(normal, inputs, return_full_exec_context=True)
    values = flips.from_context(program, context)
    for found in flips.compare(program, values):
        assert found.wrong == 0, found
        assert found.flips <= 1 + found.codes // 500, found
    known = reference.run(program, inputs) | values
    for step in program.steps:  # the last layer too, from the executor's own codes
        written = reference.run_step(step, program.tensors, known)
        for port in program.outputs:
            if port.tensor in written:
                assert port.shape == context[port.name].shape
                got = reference.to_port(written[port.tensor], port.shape)
                np.testing.assert_allclose(got, context[port.name], rtol=1e-4, atol=1e-4)
    sources = {name for step in program.steps for name in step.sources}
    assert sources == {node.name for node in normal.graph.node}
    return program


def runs(model: onnx.ModelProto, folder: Path, target: str = "x86-64") -> Program:
    """As `agrees`, and as `executes`."""
    program = agrees(model)
    executes(model, folder, target)
    return program


def executes(model: onnx.ModelProto, folder: Path, target: str = "x86-64") -> Compiled:
    """The compiled library computes in every layer what qonnx's executor computes there."""
    result = compiled(model, folder, target)
    library = Library(result.library)
    samples = [library.random_inputs(seed) for seed in range(2)]
    layers = verify_library(folder / "net.onnx", library, samples)
    assert {layer.name: layer for layer in layers if layer.errors} == {}
    assert {port.name for port in library.outputs} <= {layer.name for layer in layers}
    return result
