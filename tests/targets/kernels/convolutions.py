"""Single-convolution steps, their memory, and their exact result: what kernel tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Kernel, Schedule
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.layout import (
    Layout,
    buffer_dtype,
    buffer_shape,
    planes,
    storage_offset,
    zero_code,
)
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.program import Acc, Conv, Grid, Output, Step, Tensor
from tests.targets.kernels.levels import target_for


@dataclass(frozen=True, kw_only=True)
class Case:
    """A convolution of random codes `[N, H, W, C]` whose accumulator is the float32 output."""

    step: Step
    conv: Conv
    tensors: dict[str, Tensor]
    codes: NDArray[np.int32]


def grid_of(text: str) -> Grid:
    """`b` bipolar, `s4` signed, `u2` unsigned, `n2` signed narrow."""
    if text == "b":
        return Grid(bits=1, signed=True, bipolar=True)
    return Grid(bits=int(text[1:]), signed=text[0] != "u", narrow=text[0] == "n")


def random_codes(
    rng: np.random.Generator, grid: Grid, shape: tuple[int, ...], extreme: bool
) -> NDArray[np.int32]:
    """Uniform codes; only the grid's ends where `extreme`."""
    if grid.bipolar or extreme:
        return rng.choice([grid.low, grid.high], shape).astype(np.int32)
    return rng.integers(grid.low, grid.high + 1, shape).astype(np.int32)


def convolution(
    *,
    image: tuple[int, int, int, int],
    out: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    weights: str = "s8",
    acts: str = "u8",
    zero: int = 0,
    extreme: bool = False,
    seed: int = 0,
) -> Case:
    """`image` is `[N, H, W, C]`; grids as in `grid_of`; `zero` is the input's zero point."""
    rng = np.random.default_rng(seed)
    batch, height, width, channels = image
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = (height + padding[0] + padding[2] - span[0]) // stride[0] + 1
    columns = (width + padding[1] + padding[3] - span[1]) // stride[1] + 1
    conv = Conv(
        input="x",
        weights=random_codes(rng, grid_of(weights), (out, *kernel, channels), extreme),
        weight_grid=grid_of(weights),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    zeros = np.full(1, zero, np.float32)
    tensors = {
        "x": Tensor(name="x", shape=image, grid=grid_of(acts), zero_point=zeros),
        "y": Tensor(name="y", shape=(batch, rows, columns, out)),
    }
    step = Step(name="conv", anchor=conv, outputs=(Output(tensor="y", value=Acc()),))
    codes = random_codes(rng, grid_of(acts), image, extreme)
    return Case(step=step, conv=conv, tensors=tensors, codes=codes)


def expected(case: Case) -> NDArray[np.int64]:
    """The exact accumulators, `[N, H, W, O]`."""
    conv, output = case.conv, case.tensors["y"].shape
    top, left, bottom, right = conv.padding
    centred = case.codes.astype(np.int64) - zero_code(case.tensors["x"])
    padded = np.pad(centred, ((0, 0), (top, bottom), (left, right), (0, 0)))
    result = np.zeros(output, np.int64)
    for kh in range(conv.weights.shape[1]):
        for kw in range(conv.weights.shape[2]):
            y, x = kh * conv.dilation[0], kw * conv.dilation[1]
            rows = slice(y, y + (output[1] - 1) * conv.stride[0] + 1, conv.stride[0])
            columns = slice(x, x + (output[2] - 1) * conv.stride[1] + 1, conv.stride[1])
            result += padded[:, rows, columns] @ conv.weights[:, kh, kw].T.astype(np.int64)
    return result


def in_memory(tensor: Tensor, layout: Layout, codes: NDArray[np.int32]) -> NDArray[Any]:
    """The tensor's buffer; what a layout leaves undefined holds noise."""
    if tensor.grid is None:
        raise ValueError("a float tensor needs no encoding")
    top, left, bottom, right = layout.padding
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    zero = zero_code(tensor) - storage_offset(tensor.grid)
    stored = codes - storage_offset(tensor.grid)
    channels = codes.shape[3]
    if layout.kind in ("bytes", "tight"):
        shape = buffer_shape(tensor, layout)
        memory = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        memory[..., :channels] = np.pad(stored, border, constant_values=zero)
        return memory
    if tensor.grid.bipolar:
        stored, zero = (codes > 0).astype(np.int32), 0
    padded = np.pad(stored, border, constant_values=zero)
    padded = np.pad(padded, ((0, 0), (0, 0), (0, 0), (0, -channels % 32)))
    bits = np.stack([padded >> k & 1 for k in range(planes(tensor.grid))], axis=3)
    packed = np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint32)


def runs_here(isa: Isa) -> bool:
    """Whether this machine executes the level."""
    return not target_for(isa).missing()


def compiled(case: Case, kernel: Kernel, isa: Isa, schedule: Schedule, extra: int = 0) -> Any:
    """A function and its arguments, the output last; `extra` widens the input's border."""
    wanted = kernel.operand(case.step, case.tensors)
    if wanted is None:
        raise ValueError("a convolution has an operand")
    top, left, bottom, right = wanted.padding
    padding = (top + extra, left + 2 * extra, bottom + extra, right)
    source = Layout(kind=wanted.kind, padding=padding)
    layouts = {"x": (source,), "y": (Layout(kind="float"),)}
    emitted = kernel.emit(case.step, case.tensors, layouts, isa, schedule)
    function = emitted.func.with_attr("global_symbol", "kernel")
    output = emitted.writes[0]
    arrays = [
        in_memory(case.tensors["x"], source, case.codes),
        *emitted.constants,
        np.zeros(buffer_shape(case.tensors["y"], output.layout), buffer_dtype(output.layout)),
    ]
    arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]
    return compile_tir(function, target_for(isa, kernel)).jit()["kernel"], arguments


def accumulators(
    case: Case, kernel: Kernel, isa: Isa, schedule: Schedule, extra: int = 0
) -> NDArray[np.float32]:
    """The kernel's result, `[N, H, W, O]`."""
    function, arguments = compiled(case, kernel, isa, schedule, extra)
    function(*arguments)
    result: NDArray[np.float32] = arguments[-1].numpy().transpose(0, 2, 3, 1)
    return result


def check(case: Case, kernel: Kernel, isa: Isa, extra: int = 0, *, shares: int = 1) -> None:
    """Every schedule of the kernel gives the exact accumulators, in so many shares."""
    schedules = kernel.schedules(case.step, case.tensors, isa)
    if not schedules:
        raise AssertionError("a kernel declares at least one schedule")
    for plain in schedules:
        schedule = {**plain, SHARES: shares} if shares > 1 else plain
        result = accumulators(case, kernel, isa, schedule, extra)
        np.testing.assert_array_equal(result, expected(case).astype(np.float32), str(schedule))
