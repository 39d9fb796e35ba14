from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.passes.layout import plan_layouts
from mpqdeploy.targets.program import (
    Acc,
    Conv,
    Grid,
    Load,
    Output,
    Port,
    Program,
    Quant,
    Step,
    Sum,
    Tensor,
)

GRID = Grid(bits=4, signed=False)


@dataclass
class Reads:
    """A kernel that is nothing but the layout it wants its operand in."""

    layout: Layout | None

    def operand(self, step: Step, tensors: Mapping[str, Tensor]) -> Layout | None:
        return self.layout


def conv(name: str, source: str, target: str, load: str | None = None) -> Step:
    weights = np.ones((8, 3, 3, 8), np.int32)
    value: Any = Sum(x=Acc(), y=Load(tensor=load)) if load else Acc()
    anchor = Conv(input=source, weights=weights, weight_grid=Grid(bits=4, signed=True))
    return Step(name=name, anchor=anchor, outputs=(Output(tensor=target, value=value),))


def program() -> Program:
    """x -> a; a -> b and a -> c, both convolutions; c adds b; y is c in float."""
    shape = (1, 8, 8, 8)
    names = ("a", "b", "c")
    tensors = {name: Tensor(name=name, shape=shape, grid=GRID) for name in names}
    tensors |= {name: Tensor(name=name, shape=shape) for name in ("x", "y")}
    quant = Step(
        name="quant",
        anchor=None,
        outputs=(Output(tensor="a", value=Quant(x=Load(tensor="x"), grid=GRID)),),
    )
    return Program(
        inputs=(Port(name="x", tensor="x", shape=(1, 8, 8, 8)),),
        outputs=(Port(name="y", tensor="y", shape=(1, 8, 8, 8)),),
        tensors=tensors,
        steps=(quant, conv("one", "a", "b"), conv("two", "a", "c", "b"), conv("three", "c", "y")),
    )


def plan(one: Layout, two: Layout, three: Layout) -> Mapping[str, tuple[Layout, ...]]:
    kernels: Any = {"quant": Reads(None), "one": Reads(one), "two": Reads(two)}
    return plan_layouts(program(), {**kernels, "three": Reads(three)})


def test_readers_of_one_kind_share_a_buffer_with_the_widest_border() -> None:
    left = Layout(kind="bytes", padding=(2, 0, 1, 0))
    right = Layout(kind="bytes", padding=(1, 1, 1, 1))
    layouts = plan(left, right, Layout(kind="bytes"))
    assert layouts["a"] == (Layout(kind="bytes", padding=(2, 1, 1, 1)),)


def test_readers_of_two_kinds_get_a_buffer_each() -> None:
    bits = Layout(kind="bits", padding=(1, 1, 1, 1))
    layouts = plan(bits, Layout(kind="bytes"), bits)
    assert set(layouts["a"]) == {bits, Layout(kind="bytes")}
    assert layouts["c"] == (bits,)


def test_a_residual_is_read_as_bytes_and_ports_as_floats() -> None:
    bits = Layout(kind="bits")
    layouts = plan(bits, bits, bits)
    assert layouts["b"] == (Layout(kind="bytes"),)
    assert layouts["x"] == (Layout(kind="float"),)
    assert layouts["y"] == (Layout(kind="float"),)


def test_floats_between_steps_are_read_with_their_channels_together() -> None:
    whole = program()
    floats = {**whole.tensors, "b": Tensor(name="b", shape=whole.tensors["b"].shape)}
    changed = Program(inputs=whole.inputs, outputs=whole.outputs, tensors=floats, steps=whole.steps)
    bits = Layout(kind="bits")
    kernels: Any = {"quant": Reads(None), **dict.fromkeys(("one", "two", "three"), Reads(bits))}
    assert plan_layouts(changed, kernels)["b"] == (Layout(kind="reals"),)


def test_what_nobody_reads_has_no_layout() -> None:
    whole = program()
    unread = {**whole.tensors, "unread": Tensor(name="unread", shape=(1, 1, 1, 1), grid=GRID)}
    fewer = Program(
        inputs=whole.inputs, outputs=whole.outputs, tensors=unread, steps=whole.steps[:1]
    )
    layouts = plan_layouts(fewer, {"quant": Reads(None)})  # type: ignore[dict-item]
    assert layouts["unread"] == ()
    assert layouts["a"] == ()
