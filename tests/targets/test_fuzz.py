"""The contract for files of other people: right, or a fallback by name, or an error by name.

Mutated QONNX graphs, seeded. What the compiler accepts is held against qonnx's executor: the
integer program for every mutant, in numpy, layer by layer; the compiled library for a sample.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from mpqdeploy.core import UserError
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Program
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.verify import verify_library
from tests.targets import flips, mutants

MUTANTS, PARTS = 2000, 10
COMPILED = 24
HUGE = 1e12  # floats beyond that overflow somewhere, in one executor or the other
Outcome = str
Accepted = tuple[ModelWrapper, Program]


@pytest.fixture(scope="module")
def networks() -> list[onnx.ModelProto]:
    return mutants.seeds()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Odd numbers overflow; that is not what is tested."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def mutant(networks: list[onnx.ModelProto], seed: int) -> onnx.ModelProto | bytes:
    return mutants.mutant(networks[seed % len(networks)], np.random.default_rng(seed))


def accepted(model: onnx.ModelProto | bytes, folder: Path) -> Accepted | str:
    """The graph and its program, or the error's text; any other exception fails the test."""
    source: onnx.ModelProto | Path
    if isinstance(model, bytes):
        source = folder / "mutant.onnx"
        source.write_bytes(model)
    else:
        source = model
    try:
        normal = normalize(source)
        return normal, integerize(normal)
    except UserError as error:
        return str(error)


def judged(normal: ModelWrapper, program: Program, seed: int) -> Outcome:
    """What qonnx's executor says to `program`."""
    rng = np.random.default_rng(seed)
    inputs = {port.name: rng.normal(size=port.shape).astype(np.float32) for port in program.inputs}
    try:
        context = execute_onnx(normal, inputs, return_full_exec_context=True)
    except Exception as error:  # noqa: BLE001 - qonnx raises plain ones
        return f"not executed: {type(error).__name__}"
    if not all(_is_sane(array) for array in context.values() if array is not None):
        return "overflow"
    for port in program.outputs:
        assert context[port.name].shape == port.shape
    values = flips.from_context(program, context)
    for found in flips.compare(program, values):
        if program.tensors[found.tensor].grid is not None:
            assert found.wrong == 0, found
            assert found.flips - found.ties <= 2 + found.codes // 50, found
        elif found.wrong:
            assert _is_close(program, values, found), found
    return "right"


def _is_sane(array: NDArray[Any]) -> bool:
    return array.dtype != np.float32 or bool(np.all(np.abs(array) < HUGE))


def _is_close(program: Program, values: flips.Values, found: flips.Flips) -> bool:
    """Floats within rounding of the largest of them; the bound of `flips` is of each alone."""
    from mpqdeploy.targets import reference

    step = next(step for step in program.steps if step.name == found.step)
    known = dict(values)
    for earlier in program.steps[: program.steps.index(step)]:
        known = reference.run_step(earlier, program.tensors, known) | known
    got, want = reference.run_step(step, program.tensors, known)[found.tensor], values[found.tensor]
    return bool(np.max(np.abs(got - want)) <= 1e-5 * np.max(np.abs(want)) + 1e-30)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_mutant_is_right_or_refused(
    part: int, networks: list[onnx.ModelProto], tmp_path: Path
) -> None:
    outcomes: Counter[Outcome] = Counter()
    for seed in range(part * MUTANTS // PARTS, (part + 1) * MUTANTS // PARTS):
        result = accepted(mutant(networks, seed), tmp_path)
        if isinstance(result, str):
            assert re.search(r"[\w'].*\S", result), f"mutant {seed}: {result!r}"
            outcomes["refused"] += 1
            continue
        try:
            outcomes[judged(*result, seed)] += 1
        except AssertionError as error:
            raise AssertionError(f"mutant {seed}: {error}") from error
        if any(step.fallback for step in result[1].steps):
            outcomes["fallback"] += 1
    count = MUTANTS // PARTS
    assert outcomes["right"] > count / 8, outcomes
    assert outcomes["refused"] > count / 4, outcomes
    unknown = count - outcomes["right"] - outcomes["refused"]
    assert unknown <= count / 20, outcomes


def test_mutants_compile_as_they_are(networks: list[onnx.ModelProto], tmp_path: Path) -> None:
    """A sample, all the way: the library in every layer, and the file left alone."""
    target, seed, done = load_target("x86-64"), 10_000, 0
    while done < COMPILED:
        seed += 1
        model = mutant(networks, seed)
        result = accepted(model, tmp_path)
        if isinstance(result, str) or isinstance(model, bytes):
            continue
        if judged(*result, seed) != "right":
            continue
        path = tmp_path / "mutant.onnx"
        onnx.save(model, path)
        library_path = tmp_path / f"{seed}.so"
        try:
            compile_qonnx(path, target, library_path)
        except UserError:
            continue
        library = Library(library_path)
        layers = verify_library(path, library, [library.random_inputs(seed)])
        wrong = [layer for layer in layers if layer.errors]
        assert not wrong, f"mutant {seed}: {wrong}"
        done += 1
