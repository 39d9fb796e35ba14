from __future__ import annotations

from collections.abc import Callable

import pytest

from mpqdeploy.core import Geometry, ModelError, Precision
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.select import layer_of, select
from mpqdeploy.targets.program import Program
from tests.targets import graphs
from tests.targets.fakes import CopyKernel

FIRST = CopyKernel("first", [1, 2])
SECOND = CopyKernel("second", [7])

Records = list[tuple[str, Schedule]]


@pytest.fixture(scope="module")
def convolutions() -> Program:
    """The convolution steps of a chain of two."""
    whole = integerize(normalize(graphs.conv_chain(0)))
    steps = tuple(step for step in whole.steps if step.anchor is not None)
    return Program(inputs=whole.inputs, outputs=whole.outputs, tensors=whole.tensors, steps=steps)


def always(*records: tuple[str, Schedule]) -> Callable[[Geometry, Precision], Records]:
    return lambda geometry, precision: list(records)


def test_without_a_measurement_the_first_that_matches_with_its_default(
    convolutions: Program,
) -> None:
    wide = CopyKernel("wide", [3], bits=8)  # matches nothing here: the weights have 4 bits
    for measured in (None, always()):
        for choice in select(convolutions, Isa.PORTABLE, [wide, FIRST, SECOND], measured).values():
            assert (choice.kernel.name, choice.schedule) == ("first", {"work": 1})
            assert not choice.measured


@pytest.mark.parametrize("record", [("second", {"work": 7}), ("first", {"work": 2})])
def test_a_measurement_decides(convolutions: Program, record: tuple[str, Schedule]) -> None:
    choices = select(convolutions, Isa.PORTABLE, [FIRST, SECOND], always(record))
    assert set(choices) == {step.name for step in convolutions.steps}
    for choice in choices.values():
        assert (choice.kernel.name, choice.schedule) == record
        assert choice.measured


def test_the_fastest_that_a_step_offers(convolutions: Program) -> None:
    records = always(("gone", {"work": 1}), ("first", {"work": 99}), ("first", {"work": 2}))
    for choice in select(convolutions, Isa.PORTABLE, [SECOND, FIRST], records).values():
        assert (choice.kernel.name, choice.schedule) == ("first", {"work": 2})
        assert choice.measured


@pytest.mark.parametrize("record", [("gone", {"work": 1}), ("first", {"work": 99})])
def test_a_measurement_of_what_is_no_longer_there_does_not_count(
    convolutions: Program, record: tuple[str, Schedule]
) -> None:
    for choice in select(convolutions, Isa.PORTABLE, [FIRST], always(record)).values():
        assert (choice.kernel.name, choice.schedule, choice.measured) == (
            "first",
            {"work": 1},
            False,
        )


def test_each_layer_is_looked_up_by_its_geometry_and_precision(convolutions: Program) -> None:
    asked: list[tuple[Geometry, Precision]] = []

    def measured(geometry: Geometry, precision: Precision) -> Records:
        asked.append((geometry, precision))
        return [("second", {"work": 7})] if geometry.in_channels == 3 else []

    choices = select(convolutions, Isa.PORTABLE, [FIRST, SECOND], measured)
    assert [choice.kernel.name for choice in choices.values()] == ["second", "first"]
    first, second = asked
    assert first == (
        Geometry(
            op="conv",
            in_channels=3,
            out_channels=17,
            in_size=(9, 8),
            kernel=(3, 3),
            padding=(1, 1, 1, 1),
            act_signed=True,
        ),
        Precision(weight_bits=4, act_bits=8),
    )
    assert (second[0].in_channels, second[0].act_signed) == (17, False)
    assert second[1] == Precision(weight_bits=4, act_bits=4)


def test_a_layer_of_a_fully_connected_network_is_linear() -> None:
    program = integerize(normalize(graphs.mlp(0)))
    layers = [layer_of(program, step) for step in program.steps]
    assert [layer[0].op for layer in layers if layer][-1] == "linear"
    assert None in layers  # the input's quantizer is no layer


def test_a_step_without_a_kernel_is_an_error_that_names_it(convolutions: Program) -> None:
    wide = CopyKernel("wide", [1], bits=8)
    with pytest.raises(ModelError, match=r"vnni level computes .*Conv_\d+") as caught:
        select(convolutions, Isa.VNNI, [wide])
    assert caught.value.hint
