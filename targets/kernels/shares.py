"""Shares: how the loops of a kernel are divided among threads.

A schedule with `shares` n has its kernel's body emitted once inside a parallel loop over n shares;
scratch is allocated in there, so every share has its own. Without it a kernel is emitted as if
there were no threads, and so is everything for a target of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Kernel, Schedule, Tensors
from mpqdeploy.targets.program import Conv, FloatConv, Step

SHARES = "shares"  # the key of a schedule

# Threads meet behind every kernel that is shared, which takes 0.3 to 0.7 us, and each then reads
# what the other has written. One thread makes this many multiply-accumulates in 2.5 us.
LEAST_WORK = 500_000
ELEMENT = 32  # multiply-accumulates that take as long as an element's epilogue


@dataclass(frozen=True)
class Share:
    """The `index`-th, a TIR expression, of `count` shares."""

    index: Any
    count: int

    def loop(self, extent: int) -> Any:
        """A TIR loop over this share of `range(extent)`."""
        from tvm.script.ir_builder import tirx as T

        if self.count == 1:
            return T.serial(0, extent)
        return T.serial(self.first(extent), self.end(extent))

    def first(self, extent: int) -> Any:
        """The first turn of `loop`."""
        from tvm.script.ir_builder import tirx as T

        return 0 if self.count == 1 else T.floordiv(self.index * extent, self.count)

    def end(self, extent: int) -> Any:
        """Behind the last turn of `loop`."""
        from tvm.script.ir_builder import tirx as T

        return extent if self.count == 1 else T.floordiv((self.index + 1) * extent, self.count)

    def once(self) -> AbstractContextManager[Any]:
        """A block that the first share alone executes."""
        from tvm.script.ir_builder import tirx as T

        if self.count == 1:
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(T.If(self.index == 0))
        stack.enter_context(T.Then())
        return stack

    def evenness(self, extent: int) -> float:
        """The mean share of `range(extent)` over the largest one: what sharing that loop gains."""
        return extent / (-(-extent // self.count) * self.count)


WHOLE = Share(0, 1)


@contextmanager
def sharing(schedule: Schedule) -> Iterator[Share]:
    """Inside a PrimFunc: what is emitted within is executed once per share of the schedule."""
    from tvm.script.ir_builder import tirx as T

    count = schedule.get(SHARES, 1)
    if count == 1:
        yield WHOLE
        return
    with T.parallel(0, count) as index:
        yield Share(index, count)


def shared_schedules(
    kernel: Kernel, step: Step, tensors: Tensors, isa: Isa, threads: int
) -> Sequence[Schedule]:
    """The kernel's schedules for a target of `threads` threads, the untuned default first.

    Those that the step's work suggests, shared or not, and the other way for the first one alone.
    """
    plain = kernel.schedules(step, tensors, isa)
    if threads == 1:
        return plain
    shared = [{**schedule, SHARES: threads} for schedule in plain]
    if work(step, tensors) < LEAST_WORK:
        return [*plain, shared[0]]
    return [*shared, plain[0]]


def work(step: Step, tensors: Tensors) -> int:
    """About how long a step takes, in multiply-accumulates of a dot product."""
    batch, height, width, channels = tensors[step.outputs[0].tensor].shape
    elements = batch * height * width * channels
    taps = step.anchor.weights[0].size if isinstance(step.anchor, Conv | FloatConv) else 0
    return elements * (int(taps) + ELEMENT)
