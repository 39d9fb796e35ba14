"""Compiles a kernel for one step, runs it on random codes and compares every byte it must write.

case = Case(step=step, tensors=tensors, layouts=layouts)
flips = check(Direct(), case, Isa.VNNI, seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.codec import decode, encode
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Kernel, Schedule
from mpqdeploy.targets.layout import Layout, Layouts, buffer_dtype, buffer_shape
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.program import Grid, Step, Tensor
from mpqdeploy.targets.target import Target
from tests.targets.kernels.levels import require, target_for
from tests.targets.kernels.oracle import Bounded, expected


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A step, the tensors around it and the layouts in which those exist."""

    step: Step
    tensors: Mapping[str, Tensor]
    layouts: Layouts


def build(emitted: Emitted, target: Target) -> Any:
    """The emitted function, compiled; takes tensors in `Emitted` order."""
    function = emitted.func.with_attr("global_symbol", "kernel")
    return compile_tir(function, target).jit()


def random_codes(tensor: Tensor, rng: np.random.Generator) -> NDArray[Any]:
    """Codes of the tensor's grid, or float32 normals: `[N, H, W, C]`."""
    if tensor.grid is None:
        return rng.normal(size=tensor.shape).astype(np.float32)
    return random_grid(tensor.grid, tensor.shape, rng)


def random_grid(grid: Grid, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    if grid.bipolar:
        return (rng.integers(0, 2, shape) * 2 - 1).astype(np.int32)
    return rng.integers(grid.low, grid.high + 1, shape).astype(np.int32)


def input_buffer(
    case: Case, buffer: Buffer, codes: NDArray[Any], rng: np.random.Generator
) -> NDArray[Any]:
    """`codes` in memory, with noise in the channels that hold anything."""
    tensor = case.tensors[buffer.tensor]
    encoded = encode(tensor, buffer.layout, codes)
    if buffer.layout.kind in ("bytes", "reals"):
        channels = tensor.shape[3]
        unused = encoded[..., channels:].shape
        encoded[..., channels:] = rng.integers(0, 256, unused, dtype=np.uint8)
    return encoded


def run(
    kernel: Kernel,
    case: Case,
    isa: Isa,
    inputs: Mapping[str, NDArray[Any]],
    schedule: Schedule | None = None,
    seed: int = 0,
) -> dict[Buffer, NDArray[Any]]:
    """Every written buffer. Outputs hold noise before, so that what is not written shows."""
    import tvm

    rng = np.random.default_rng(seed)
    if schedule is None:
        schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    emitted = kernel.emit(case.step, case.tensors, case.layouts, isa, schedule)
    reads = [input_buffer(case, b, inputs[b.tensor], rng) for b in emitted.reads]
    results = [Guarded(case.tensors[b.tensor], b.layout, rng) for b in emitted.writes]
    arguments = [tvm.runtime.tensor(array) for array in (*reads, *emitted.constants)]
    views = [tvm.runtime.from_dlpack(result.array) for result in results]
    build(emitted, target_for(isa, kernel))["kernel"](*arguments, *views)
    for result, buffer in zip(results, emitted.writes, strict=True):
        assert result.intact(), f"{buffer}: the kernel wrote outside the buffer"
    return {b: r.array for b, r in zip(emitted.writes, results, strict=True)}


class Guarded:
    """A buffer full of noise between two guards of noise."""

    GUARD = 256  # bytes, more than any vector register
    ALIGNMENT = 64

    def __init__(self, tensor: Tensor, layout: Layout, rng: np.random.Generator) -> None:
        shape, dtype = buffer_shape(tensor, layout), np.dtype(buffer_dtype(layout))
        size = int(np.prod(shape)) * dtype.itemsize
        self._memory = rng.integers(0, 256, size + 2 * self.GUARD + self.ALIGNMENT, dtype=np.uint8)
        self._first = self.GUARD + -(self._memory.ctypes.data + self.GUARD) % self.ALIGNMENT
        self._last = self._first + size
        self._around = self._outside()
        self.array = self._memory[self._first : self._last].view(dtype).reshape(shape)

    def _outside(self) -> bytes:
        return self._memory[: self._first].tobytes() + self._memory[self._last :].tobytes()

    def intact(self) -> bool:
        return self._outside() == self._around


def check(
    kernel: Kernel,
    case: Case,
    isa: Isa,
    *,
    schedule: Schedule | None = None,
    seed: int = 0,
    exact: bool = False,
) -> int:
    """Runs the kernel on random codes; returns how many codes flipped against the oracle.

    A code may flip only where the value before rounding is within float32 rounding of a threshold,
    and nowhere with `exact`. Values, borders and unused bits are compared.
    """
    require(isa, kernel)
    rng = np.random.default_rng(seed)
    names = case.step.reads()
    inputs = {name: random_codes(case.tensors[name], rng) for name in names}
    wanted = expected(case.step, case.tensors, inputs)
    flips = 0
    for buffer, result in run(kernel, case, isa, inputs, schedule, seed).items():
        flips += compare(case.tensors[buffer.tensor], buffer, result, wanted[buffer.tensor], exact)
    return flips


def compare(
    tensor: Tensor, buffer: Buffer, result: NDArray[Any], wanted: Bounded, exact: bool = False
) -> int:
    """Asserts that a written buffer is right; returns the flipped codes."""
    values = decode(tensor, buffer.layout, result)
    difference = np.abs(values.astype(np.float64) - wanted.value)
    allowed = np.zeros_like(wanted.error) if exact else wanted.error
    worst = np.unravel_index(np.argmax(difference - allowed), difference.shape)
    assert (difference <= allowed).all(), (
        f"{buffer}: {int((difference > allowed).sum())} of {difference.size} values differ, "
        f"at {worst}: {values[worst]} instead of {wanted.value[worst]}"
    )
    if buffer.layout.kind in ("float", "reals"):
        return 0
    again = encode(tensor, buffer.layout, values)
    used = tensor.shape[3] if buffer.layout.kind == "bytes" else again.shape[-1]
    wrong = again[..., :used] != result[..., :used]
    assert not wrong.any(), f"{buffer}: {int(wrong.sum())} elements of the border or unused bits"
    return int((difference > 0).sum())
