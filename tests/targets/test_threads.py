"""Libraries for several threads: the same results, whoever calls them, and without workers too."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mpqdeploy.core import TargetError
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.kernels import KERNELS, shares
from mpqdeploy.targets.kernels.shares import SHARES, shared_schedules, work
from mpqdeploy.targets.library import Arrays, Library
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.select import select
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.threads import Threads, processors
from tests.targets import graphs
from tests.targets.compiled import target_here

THREADS = 2
GRAPHS = {
    "chain": graphs.conv_chain(1, channels=(3, 16, 40, 40, 16, 5)),
    "residual": graphs.residual(2),
    "depthwise": graphs.depthwise(3),
    "pooled": graphs.pooled(4),
    "mlp": graphs.mlp(5),
}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small kernels are shared as well."""
    monkeypatch.setattr(shares, "LEAST_WORK", 0)


def built(name: str, folder: Path, target: str, threads: int) -> Library:
    onnx.save(GRAPHS[name], folder / "net.onnx")
    machine = replace(target_here(target), threads=threads)
    library = folder / f"net-{threads}.so"
    compile_qonnx(folder / "net.onnx", machine, library)
    return Library(library)


def same(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("target", ["x86-64-vnni", "x86-64-avx2", "x86-64"])
@pytest.mark.parametrize("name", GRAPHS)
def test_threads_do_not_change_a_bit(name: str, target: str, tmp_path: Path) -> None:
    alone, together = (built(name, tmp_path, target, threads) for threads in (1, THREADS))
    assert (alone.threads, together.threads) == (1, THREADS)
    for seed in range(3):
        inputs = alone.random_inputs(seed)
        assert same(alone.run(inputs), together.run(inputs))
        traced = zip(alone.trace(inputs), together.trace(inputs), strict=True)
        for before, after in traced:
            assert before.buffer == after.buffer
        assert same(alone.run(inputs), {p.name: r for p, r in results(together, inputs)})


def results(library: Library, inputs: Arrays) -> Any:
    """What the call that is timed computes, by port."""
    found = library.bound(inputs)()
    return [
        (port, np.array(np.from_dlpack(result)).reshape(port.shape))
        for port, result in zip(library.outputs, found, strict=True)
    ]


@pytest.mark.usefixtures("always")
def test_libraries_run_in_several_threads_at_once(tmp_path: Path) -> None:
    """Two libraries in one thread each, one of them in a third thread as well."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = built("chain", tmp_path / "a", "x86-64", THREADS)
    second = built("residual", tmp_path / "b", "x86-64", THREADS)
    wrong: list[int] = []

    def work_on(library: Library, seed: int) -> None:
        inputs = library.random_inputs(seed)
        wanted = expected[library, seed]
        wrong.extend(seed for _ in range(20) if not same(library.run(inputs), wanted))

    callers = [(first, 0), (second, 1), (first, 2)]
    expected = {(lib, seed): lib.run(lib.random_inputs(seed)) for lib, seed in callers}
    threads = [threading.Thread(target=work_on, args=caller) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def _in_a_fork(library: Library, inputs: Arrays, answers: Any) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = library.run(inputs)
    answers.put((found, [str(warning.message) for warning in said]))


@pytest.mark.usefixtures("always")
def test_a_fork_has_no_workers_and_says_so(tmp_path: Path) -> None:
    library = built("chain", tmp_path, "x86-64", THREADS)
    inputs = library.random_inputs()
    wanted = library.run(inputs)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_a_fork, args=(library, inputs, answers))
    child.start()
    found, said = answers.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert same(found, wanted)
    assert any("a fork has no workers" in message for message in said)


def test_a_pool_that_is_too_small_is_named() -> None:
    """The first library that a thread runs decides the size of its pool."""
    said: list[str] = []

    def run() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Threads(2).ready()
            Threads(1).ready()
            Threads(3).ready()
        said.extend(str(warning.message) for warning in caught)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert len(said) == 1
    assert "runs on fewer" in said[0]


def test_small_kernels_stay_serial() -> None:
    program = integerize(normalize(GRAPHS["residual"]))
    isa = load_target("x86-64").isa
    choices = select(program, isa, KERNELS, threads=THREADS)
    for step in program.steps:
        shared = SHARES in choices[step.name].schedule
        assert shared == (work(step, program.tensors) >= shares.LEAST_WORK)


def test_one_thread_sees_the_schedules_that_kernels_declare() -> None:
    program = integerize(normalize(GRAPHS["chain"]))
    isa = load_target("x86-64").isa
    for step in program.steps:
        for kernel in KERNELS:
            if not kernel.matches(step, program.tensors, isa):
                continue
            plain = kernel.schedules(step, program.tensors, isa)
            assert shared_schedules(kernel, step, program.tensors, isa, 1) == plain
            both = shared_schedules(kernel, step, program.tensors, isa, 2)
            assert len(both) == len(plain) + 1
            assert {schedule.get(SHARES, 1) for schedule in both} == {1, 2}


def test_more_threads_than_processors_are_refused() -> None:
    with pytest.raises(TargetError, match="more than the"):
        load_target("host", len(processors()) + 1)
    assert load_target("x86-64", 64).threads == 64
