"""What a kernel asks for while it computes: constants of the steps behind its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, following
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.kernels.dot import DOT_KERNELS
from mpqdeploy.targets.kernels.following import AHEAD, Following
from mpqdeploy.targets.kernels.permute import Gather, PermuteKernel
from mpqdeploy.targets.kernels.popcount import POPCOUNT
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.passes import emit
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.layout import plan_layouts
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.select import select
from mpqdeploy.targets.program import Conv
from tests.targets import graphs
from tests.targets.agreeing import executes
from tests.targets.kernels.convolutions import accumulators, convolution, expected

PORTABLE = DOT_KERNELS[-1]


class Line:
    """Stands for a constant of 10 int32."""

    shape = (10,)
    dtype = "int32"

    def __getitem__(self, index: Any) -> int:
        return int(index)


@pytest.mark.parametrize("lines", [1, 7, 64, 100])
@pytest.mark.parametrize("chances", [1, 6, 64, 99, 1000])
def test_all_lines_are_asked_for_and_none_beyond(
    lines: int, chances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(following, "prefetch_line", asked.append)
    found = Following.of({AHEAD: lines}, Line())
    assert found is not None
    for chance in range(chances):
        before = len(asked)
        found.ask(chance, chances)
        assert len(asked) - before <= -(-lines // chances)
    assert {(index - 10) // 16 for index in asked} == set(range(lines))
    assert all((index - 10) % 16 == 0 for index in asked)


def test_nothing_is_asked_for_unless_the_schedule_says_so() -> None:
    assert Following.of({"rows": 1}, Line()) is None


@pytest.mark.parametrize(
    ("kernel", "weights", "acts"),
    [
        (PORTABLE, "s8", "u8"),
        (POPCOUNT, "b", "u1"),
        (PermuteKernel(Gather(Isa.PORTABLE)), "b", "u4"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("lines", [3, 400, 30_000])
def test_kernels_ask_and_compute_the_same(
    kernel: Kernel, weights: str, acts: str, lines: int
) -> None:
    """With few lines, and with so many that every step asks for one."""
    case = convolution(image=(1, 5, 6, 32), out=48, weights=weights, acts=acts)
    schedule = {**kernel.schedules(case.step, case.tensors, Isa.PORTABLE)[0], AHEAD: lines}
    operand = kernel.operand(case.step, case.tensors)
    assert operand is not None
    layouts = {"x": (operand,), "y": (Layout(kind="float"),)}
    text = [
        str(kernel.emit(case.step, case.tensors, layouts, Isa.PORTABLE, each).func)
        for each in ({**schedule, AHEAD: 0}, schedule)
    ]
    assert text[1].count("llvm.prefetch") > text[0].count("llvm.prefetch")
    result = accumulators(case, kernel, Isa.PORTABLE, schedule)
    np.testing.assert_array_equal(result, expected(case).astype(np.float32))


def network(features: int) -> Any:
    builder = graphs.GraphBuilder(2, (1, 3, 8, 8))
    x = builder.quant(builder.block(builder.quant("x", 8, signed=True), 32), 4)
    x = builder.node("GlobalAveragePool", [x], 32)
    x = builder.quant(builder.node("Flatten", [x], 32), 8)
    return builder.model(builder.linear(x, 32, features, bits=8))


@pytest.mark.parametrize(("features", "asks"), [(2000, True), (100, False)])
def test_the_layer_before_asks_for_a_large_last_layer(
    features: int, asks: bool, tmp_path: Path
) -> None:
    model = network(features)
    program = integerize(normalize(model))
    choices = select(program, Isa.PORTABLE, KERNELS)
    layouts = plan_layouts(program, {name: choice.kernel for name, choice in choices.items()})
    functions = {
        step.name: choices[step.name].kernel.emit(
            step, program.tensors, layouts, Isa.PORTABLE, choices[step.name].schedule
        )
        for step in program.steps
    }
    found = emit.asked_for(program, functions)
    convolutions = [step for step in program.steps if isinstance(step.anchor, Conv)]
    assert list(found) == (convolutions[:-1][-1:] if asks else [])
    if asks:
        held = sum(array.nbytes for array in functions[convolutions[-1].name].constants)
        assert held <= 64 * found[convolutions[-2]] <= held + 4096
        counted = [
            str(emit.emit(program, choices, layouts, Isa.PORTABLE, threads=threads).emitted).count(
                "llvm.prefetch"
            )
            for threads in (1, 2)
        ]
        assert counted[0] > counted[1]  # threads have caches of their own
        executes(model, tmp_path)


def test_shared_constants_keep_their_values() -> None:
    """Asking changes a function, not what it is given."""
    program = integerize(normalize(network(2000)))
    choices = select(program, Isa.PORTABLE, KERNELS)
    layouts = plan_layouts(program, {name: choice.kernel for name, choice in choices.items()})
    once, twice = (
        emit.emit(program, choices, layouts, Isa.PORTABLE, threads=threads).emitted
        for threads in (1, 2)
    )
    for name, function in once.items():
        for one, other in zip(function.constants, twice[name].constants, strict=True):
            np.testing.assert_array_equal(one, other)
