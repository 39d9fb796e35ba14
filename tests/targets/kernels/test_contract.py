"""What every registered kernel must keep to, on every instruction-set level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, every_kernel
from mpqdeploy.targets.kernels.base import Emitted, Kernel
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.layout import Layout, buffer_dtype, buffer_shape
from mpqdeploy.targets.passes.chain import on_pointers
from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Conv,
    Expr,
    Grid,
    Load,
    Output,
    Pool,
    Quant,
    Step,
    Sum,
    Tensor,
)
from mpqdeploy.targets.threads import Threads
from tests.targets.kernels.harness import Case, check, random_codes, random_grid, run
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import BIPOLAR

BYTES = Layout(kind="bytes", padding=(1, 1, 1, 1))
BITS = Layout(kind="bits", padding=(1, 1, 1, 1))
U8, U4, U2 = (Grid(bits=bits, signed=False) for bits in (8, 4, 2))
S8, S4, S2 = (Grid(bits=bits, signed=True) for bits in (8, 4, 2))


def scaled(x: Expr, channels: int, spread: float) -> Affine:
    mul = np.linspace(0.5, 2, channels).astype(np.float32) / np.float32(spread)
    return Affine(x=x, mul=mul, add=np.linspace(-1, 1, channels).astype(np.float32))


def convolution(source: Grid, weight: Grid, *, groups: int = 1, zero: int = 0) -> Case:
    """A padded 3x3 convolution of 40 channels (or 40 groups of one) with a residual sum; writes
    4-bit codes as bytes and bits, and signs as bits."""
    shape, inner = (1, 5, 6, 40), (1, 5, 6, 40)
    rng = np.random.default_rng(7)
    weights = random_grid(weight, (40, 3, 3, 40 // groups), rng)
    conv = Conv(
        input="source",
        weights=weights,
        weight_grid=weight,
        padding=(1, 1, 1, 1),
        groups=groups,
    )
    spread = float(np.abs(weights).mean() * max(source.high, 1) * (9 * 40 / groups) ** 0.5)
    total = Sum(x=scaled(Acc(), 40, spread / 8), y=Load(tensor="other"))
    sign = Quant(x=total, grid=BIPOLAR)
    return Case(
        step=Step(
            name="conv",
            anchor=conv,
            outputs=(
                Output(tensor="codes", value=Quant(x=total, grid=U4)),
                Output(tensor="signs", value=sign),
            ),
        ),
        tensors={
            "source": Tensor(
                name="source", shape=inner, grid=source, zero_point=np.array([zero], np.float32)
            ),
            "other": Tensor(name="other", shape=shape, grid=S4),
            "codes": Tensor(name="codes", shape=shape, grid=U4),
            "signs": Tensor(name="signs", shape=shape, grid=BIPOLAR),
        },
        layouts={"other": (BYTES,), "codes": (BYTES, BITS), "signs": (BITS,)},
    )


def linear() -> Case:
    """A classifier: 100 float outputs, no multiple of any register."""
    weights = random_grid(S8, (100, 1, 1, 40), np.random.default_rng(7))
    conv = Conv(input="source", weights=weights, weight_grid=S8)
    value = scaled(Acc(), 100, 1000)
    return Case(
        step=Step(name="fc", anchor=conv, outputs=(Output(tensor="scores", value=value),)),
        tensors={
            "source": Tensor(name="source", shape=(2, 1, 1, 40), grid=U8),
            "scores": Tensor(name="scores", shape=(2, 1, 1, 100)),
        },
        layouts={"scores": (Layout(kind="float"),)},
    )


def pooling(kind: Any) -> Case:
    pool = Pool(input="source", kind=kind, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    shape = (2, 3, 4, 17)
    value = Quant(x=scaled(Acc(), 17, 1 if kind == "max" else 9), grid=U8)
    return Case(
        step=Step(name=kind, anchor=pool, outputs=(Output(tensor="codes", value=value),)),
        tensors={
            "source": Tensor(
                name="source", shape=(2, 5, 7, 17), grid=U8, zero_point=np.array([3], np.float32)
            ),
            "codes": Tensor(name="codes", shape=shape, grid=U8),
        },
        layouts={"codes": (BYTES, BITS)},
    )


def shortcut() -> Case:
    """ResNet's parameter-free shortcut: every other pixel, zeros around 16 of 48 channels."""
    shape = (1, 3, 4, 48)
    load = Load(tensor="other", stride=(2, 2), channel_offset=16)
    value = Quant(x=scaled(load, 48, 1), grid=U4)
    return Case(
        step=Step(name="shortcut", anchor=None, outputs=(Output(tensor="codes", value=value),)),
        tensors={
            "other": Tensor(name="other", shape=(1, 6, 8, 16), grid=U8),
            "codes": Tensor(name="codes", shape=shape, grid=U4),
        },
        layouts={"other": (BYTES,), "codes": (BYTES, BITS)},
    )


def to_bits() -> Case:
    """A convolution of signs to signs, of an image that fills slices of pixels."""
    shape = (1, 16, 30, 40)
    weights = random_grid(BIPOLAR, (40, 3, 3, 40), np.random.default_rng(7))
    conv = Conv(input="source", weights=weights, weight_grid=BIPOLAR, padding=(1, 1, 1, 1))
    value = Quant(x=scaled(Acc(), 40, 9), grid=BIPOLAR)
    return Case(
        step=Step(name="conv", anchor=conv, outputs=(Output(tensor="signs", value=value),)),
        tensors={
            name: Tensor(name=name, shape=shape, grid=BIPOLAR) for name in ("source", "signs")
        },
        layouts={"signs": (BITS, BYTES)},
    )


CASES = {
    "8/8": convolution(U8, S8),
    "8/8 zero point": convolution(U8, S8, zero=100),
    "8/8 signed": convolution(S8, S8),
    "4/4": convolution(U4, S4),
    "2/2": convolution(U2, S2),
    "1/2": convolution(U2, BIPOLAR),
    "1/1": convolution(BIPOLAR, BIPOLAR),
    "1/1 to bits": to_bits(),
    "4/8 depthwise": convolution(U8, S4, groups=40),
    "8/8 grouped": convolution(U8, S8, groups=5),
    "linear": linear(),
    "max": pooling("max"),
    "sum": pooling("sum"),
    "shortcut": shortcut(),
}
REGISTERED = every_kernel()
PAIRS = [
    pytest.param(kernel, isa, name, id=f"{kernel.name}-{isa}-{name}")
    for kernel in REGISTERED
    for isa in Isa
    for name, case in CASES.items()
    if kernel.matches(case.step, case.tensors, isa)
]
over_pairs = pytest.mark.parametrize(("kernel", "isa", "name"), PAIRS)


def _first_of_each_level() -> list[Any]:
    """The pairs, slow but for the first case of every kernel on every level: for what concerns a
    kernel's loops rather than its codes."""
    found: list[Any] = []
    seen: set[tuple[str, Isa]] = set()
    for pair in PAIRS:
        kernel, isa, _ = pair.values
        marks = [pytest.mark.slow] if (kernel.name, isa) in seen else []
        seen.add((kernel.name, isa))
        found.append(pytest.param(*pair.values, id=pair.id, marks=marks))
    return found


over_levels = pytest.mark.parametrize(("kernel", "isa", "name"), _first_of_each_level())


def readable(kernel: Kernel, case: Case) -> Case:
    """The case with its anchor's input as the kernel wants it, and more padding than it asks."""
    operand = kernel.operand(case.step, case.tensors)
    if operand is None:
        return case
    top, left, bottom, right = operand.padding
    wider = Layout(kind=operand.kind, padding=(top + 1, left, bottom, right + 2))
    return Case(step=case.step, tensors=case.tensors, layouts={**case.layouts, "source": (wider,)})


def emit(kernel: Kernel, isa: Isa, name: str) -> tuple[Case, Emitted]:
    case = readable(kernel, CASES[name])
    schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    return case, kernel.emit(case.step, case.tensors, case.layouts, isa, schedule)


def test_names_are_unique() -> None:
    names = [kernel.name for kernel in REGISTERED]
    assert len(set(names)) == len(names)
    assert all(kernel.version >= 1 for kernel in REGISTERED)


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("name", CASES)
def test_every_step_has_a_kernel(isa: Isa, name: str) -> None:
    case = CASES[name]
    assert any(kernel.matches(case.step, case.tensors, isa) for kernel in KERNELS)


@over_pairs
def test_declares_its_search_space(kernel: Kernel, isa: Isa, name: str) -> None:
    case = CASES[name]
    schedules = list(kernel.schedules(case.step, case.tensors, isa))
    assert schedules
    assert schedules == list(kernel.schedules(case.step, case.tensors, isa))
    assert len({tuple(sorted(schedule.items())) for schedule in schedules}) == len(schedules)


@over_pairs
def test_arguments_are_what_emitted_says(kernel: Kernel, isa: Isa, name: str) -> None:
    """Reads (the anchor's first), constants, writes; shapes and types of each."""
    case, emitted = emit(kernel, isa, name)
    assert tuple(dict.fromkeys(b.tensor for b in emitted.reads)) == case.step.reads()
    written = [(b.tensor, b.layout) for b in emitted.writes]
    wanted = [(o.tensor, x) for o in case.step.outputs for x in case.layouts[o.tensor]]
    assert sorted(written, key=str) == sorted(wanted, key=str)

    def signature(buffer: Any) -> tuple[tuple[int, ...], str]:
        shape = buffer_shape(case.tensors[buffer.tensor], buffer.layout)
        return shape, buffer_dtype(buffer.layout)

    arguments = [signature(b) for b in emitted.reads]
    arguments += [(array.shape, str(array.dtype)) for array in emitted.constants]
    arguments += [signature(b) for b in emitted.writes]
    params = emitted.func.params
    declared = [(tuple(int(n) for n in p.shape), str(p.dtype)) for p in params]
    assert declared == arguments


@over_pairs
def test_emits_the_same_function_again(kernel: Kernel, isa: Isa, name: str) -> None:
    from tvm_ffi import structural_equal

    first, second = emit(kernel, isa, name)[1], emit(kernel, isa, name)[1]
    assert structural_equal(first.func, second.func)
    assert all(map(np.array_equal, first.constants, second.constants))


@over_pairs
def test_computes_the_step(kernel: Kernel, isa: Isa, name: str) -> None:
    check(kernel, readable(kernel, CASES[name]), isa)


@pytest.mark.slow
@over_pairs
def test_every_schedule_computes_the_step(kernel: Kernel, isa: Isa, name: str) -> None:
    case = readable(kernel, CASES[name])
    for schedule in kernel.schedules(case.step, case.tensors, isa)[1:]:
        check(kernel, case, isa, schedule=schedule)


@over_levels
def test_shares_add_up_to_the_whole(kernel: Kernel, isa: Isa, name: str) -> None:
    check_shares(kernel, isa, name, 0)


@pytest.mark.slow
@over_pairs
def test_every_schedule_can_be_shared(kernel: Kernel, isa: Isa, name: str) -> None:
    case = readable(kernel, CASES[name])
    for number in range(1, len(kernel.schedules(case.step, case.tensors, isa))):
        check_shares(kernel, isa, name, number)


def check_shares(kernel: Kernel, isa: Isa, name: str, number: int) -> None:
    """More shares than threads, and more than some loops have turns: the `number`-th schedule
    writes the same bytes."""
    require(isa, kernel)
    Threads(2).ready()
    case = readable(kernel, CASES[name])
    rng = np.random.default_rng(0)
    inputs = {tensor: random_codes(case.tensors[tensor], rng) for tensor in case.step.reads()}
    schedule = kernel.schedules(case.step, case.tensors, isa)[number]
    whole = run(kernel, case, isa, inputs, schedule)
    shared = run(kernel, case, isa, inputs, {**schedule, SHARES: 3})
    assert all(np.array_equal(whole[buffer], shared[buffer]) for buffer in whole)


@over_pairs
def test_every_kernel_can_be_shared(kernel: Kernel, isa: Isa, name: str) -> None:
    case = readable(kernel, CASES[name])
    schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    whole, shared = (
        kernel.emit(case.step, case.tensors, case.layouts, isa, given).func
        for given in (schedule, {**schedule, SHARES: 2})
    )
    assert on_pointers(whole).shares == 1
    assert on_pointers(shared).shares == 2


@over_pairs
def test_stores_narrow_weights_in_less(kernel: Kernel, isa: Isa, name: str) -> None:
    """Packed weights are integers; per-channel vectors are few."""
    case, emitted = emit(kernel, isa, name)
    conv = case.step.anchor
    if not isinstance(conv, Conv) or conv.groups == 5:
        pytest.skip("no weights, or a window of several groups")
    packed = sum(array.nbytes for array in emitted.constants if array.dtype != np.float32)
    if conv.weight_grid.bits < 8 and conv.groups == 1:
        assert packed < 0.7 * conv.weights.size


@pytest.mark.parametrize("isa", Isa)
def test_refuses_codes_wider_than_a_byte(isa: Isa) -> None:
    for case in CASES.values():
        wide = {
            name: Tensor(name=name, shape=tensor.shape, grid=Grid(bits=12, signed=True))
            for name, tensor in case.tensors.items()
        }
        written = {output.tensor: wide[output.tensor] for output in case.step.outputs}
        for tensors in (wide, {**case.tensors, **written}):
            assert not [k.name for k in REGISTERED if k.matches(case.step, tensors, isa)]
