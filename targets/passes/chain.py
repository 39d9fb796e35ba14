"""The chain of a network's kernels: one function that calls them all, on memory planned once.

A call through the runtime costs 0.7 us here, as much as a small layer's kernel; called directly,
on pointers, it costs nothing that could be measured. So the runtime calls one function per run.

With threads, that function starts them once per run (2 us), each calls its shares of the kernels,
and all wait for each other behind every kernel that is shared (0.3 to 0.7 us). Kernels that are not
run on the first thread, with nothing to wait for between them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Buffer, Emitted, Tensors
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.passes.arena import Lifetime, aligned, place

PREFIX = "kernel_"
STACK = 1024  # bytes: smaller buffers are registers, or on the stack (TVM's kMaxStackAlloca)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pointed:
    """A kernel on addresses: those of its buffers, and then of its scratch, of `scratch` bytes.

    Where it has several `shares`, the number of one is its last parameter, and each needs scratch
    of its own. `function`: the PrimFunc, or the global variable that stands for it in a module.
    `demands`: its assertions, which hold for a whole run and are left to the chain.
    """

    function: Any
    scratch: tuple[int, ...]
    shares: int = 1
    demands: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A step's kernel, by its global variable, and its arguments."""

    kernel: Pointed
    emitted: Emitted


def on_pointers(function: Any) -> Pointed:
    """`function`, whose parameters are buffers, as a private one that takes addresses.

    Buffers that it would allocate become parameters as well: the chain has a place for them. So
    does the number of a share, in place of the loop over shares.
    """
    from tvm import ir, tirx
    from tvm.tirx import stmt

    pointers: list[Any] = []
    sizes: list[int] = []
    shares: list[Any] = []
    demands: list[Any] = []

    def pointed(buffer: Any) -> Any:
        kind = ir.PointerType(ir.PrimType(str(buffer.dtype)))
        pointers.append(tirx.Var(f"{buffer.name}_data", kind))
        return stmt.DeclBuffer(buffer, data=pointers[-1])

    def given(node: Any) -> Any:
        if isinstance(node, stmt.SeqStmt):
            return stmt.SeqStmt([given(part) for part in node.seq])
        if isinstance(node, stmt.AllocBuffer) and _bytes(node.buffer) >= STACK:
            sizes.append(_bytes(node.buffer))
            return pointed(node.buffer)
        if isinstance(node, stmt.For) and node.kind == stmt.ForKind.PARALLEL:
            shares.append(node)
            return given(node.body)
        if isinstance(node, stmt.AssertStmt):
            demands.append(node)
            return stmt.Evaluate(0)
        return node

    declared = [pointed(buffer) for buffer in function.params]
    body = stmt.SeqStmt([*declared, given(function.body)])
    parameters = [*pointers, *(loop.loop_var for loop in shares)]
    private = tirx.PrimFunc(parameters, body, None, ir.make_node("ir.DictAttrs"))
    count = int(shares[0].extent) if shares else 1
    return Pointed(function=private, scratch=tuple(sizes), shares=count, demands=tuple(demands))


def privately() -> Any:
    """Relax's pipeline, after which the kernels have no public names.

    Relax gives one to every function, and the chain would call them through the runtime after all.
    """
    from tvm import ir, relax

    def hide(module: Any, _: Any) -> Any:
        for name, function in module.functions_items():
            if name.name_hint.startswith(PREFIX):
                module[name] = function.without_attr("global_symbol")
        return module

    hidden = ir.transform.module_pass(hide, opt_level=0, name="mpqdeploy.hide_kernels")
    return ir.transform.Sequential([relax.get_pipeline("default"), hidden])


def _bytes(buffer: Any) -> int:
    return math.prod(int(extent) for extent in buffer.shape) * np.dtype(str(buffer.dtype)).itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class Constants:
    """All constants of a network in one array of bytes: each argument of a function that the
    runtime calls costs half a kilobyte of code, and its checks cost time."""

    data: NDArray[np.uint8]
    offsets: Mapping[int, int]  # by the id of the array

    @classmethod
    def of(cls, steps: Sequence[Call]) -> Constants:
        arrays = {id(array): array for step in steps for array in step.emitted.constants}
        offsets, end = {}, 0
        for key, array in arrays.items():
            offsets[key] = end
            end += aligned(array.nbytes)
        data = np.zeros(max(end, 1), np.uint8)
        for key, array in arrays.items():
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            data[offsets[key] : offsets[key] + array.nbytes] = content
        return cls(data=data, offsets=offsets)


def chain(
    symbol: str,
    inputs: Sequence[Buffer],
    constants: Constants,
    results: Sequence[Buffer],
    steps: Sequence[Call],
    tensors: Tensors,
) -> Any:
    """A function of the inputs, the constants' bytes and, last, the results to write.

    The buffers in between and the kernels' scratch share one block of memory over time (`arena`).
    """
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as T

    from mpqdeploy.targets.kernels.epilogue import declare

    between = _between([*inputs, *results], steps, tensors)
    arena = place(between)
    with IRBuilder() as builder, T.prim_func():
        T.func_name(symbol)
        address: dict[Hashable, Any] = {
            buffer: declare(f"input{i}", buffer, tensors).data for i, buffer in enumerate(inputs)
        }
        held = T.arg("constants", T.buffer(constants.data.shape, "uint8")).data
        for i, buffer in enumerate(results):
            address[buffer] = declare(f"result{i}", buffer, tensors).data
        memory = T.alloc_buffer((max(arena.size, 1),), "uint8", scope="global")
        # Not `address_of` an element: that counts as a read alone, and what is only read is
        # taken for undefined.
        for key, offset in arena.offsets.items():
            address[key] = T.handle_add_byte_offset(memory.data, offset)
        _demand(steps)
        caller = _Caller(constants=constants, held=held, address=address)
        if any(step.kernel.shares > 1 for step in steps):
            caller.call_on_threads(steps)
        else:
            for number, step in enumerate(steps):
                caller.call(number, step)
    return builder.get().with_attr("global_symbol", symbol)


def _demand(steps: Sequence[Call]) -> None:
    """What the kernels assert, each once: to find out may take a call of the system."""
    from tvm.script.ir_builder import tirx as T
    from tvm_ffi import structural_equal

    made: list[Any] = []
    for demand in (demand for step in steps for demand in step.kernel.demands):
        if not any(structural_equal(demand, other) for other in made):
            T.add_to_parent(demand)
            made.append(demand)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Caller:
    """Emits the calls. `held`: where the constants are; `address`: where the buffers are, and by
    (step, number) the scratch."""

    constants: Constants
    held: Any
    address: Mapping[Hashable, Any]

    def call(self, number: int, step: Call, share: Any = None) -> None:
        """Step `number`, or a `share` of it."""
        from tvm.script.ir_builder import tirx as T

        emitted = step.emitted
        given = [self.address[buffer] for buffer in emitted.reads]
        given += [
            T.handle_add_byte_offset(self.held, self.constants.offsets[id(array)])
            for array in emitted.constants
        ]
        given += [self.address[buffer] for buffer in emitted.writes]
        for part, size in enumerate(step.kernel.scratch):
            place = self.address[number, part]
            if share is not None:
                place = T.handle_add_byte_offset(place, share * aligned(size))
            given.append(place)
        given += [] if share is None else [share]
        T.evaluate(step.kernel.function(*given))

    def call_on_threads(self, steps: Sequence[Call]) -> None:
        """All steps, inside one launch of the runtime's threads."""
        from tvm.script.ir_builder import tirx as T

        threads = max(step.kernel.shares for step in steps)
        with T.attr(0, "pragma_parallel_launch_point", 1):
            for together, run in groupby(enumerate(steps), lambda each: each[1].kernel.shares == 1):
                if together:
                    with _meeting(), T.parallel(0, threads) as thread, T.If(thread == 0), T.Then():
                        for number, step in run:
                            self.call(number, step)
                    continue
                for number, step in run:
                    with _meeting(), T.parallel(0, step.kernel.shares) as share:
                        self.call(number, step, share)


def _meeting() -> Any:
    """A block behind which the threads of a launch wait for each other."""
    from tvm.script.ir_builder import tirx as T

    return T.attr(0, "pragma_parallel_barrier_when_finish", 1)


def _between(
    outside: Sequence[Buffer], steps: Sequence[Call], tensors: Tensors
) -> Mapping[Hashable, Lifetime]:
    """The buffers that only the steps see, by themselves, and scratch, by (step, number)."""
    found: dict[Hashable, Lifetime] = {}
    for number, step in enumerate(steps):
        for part, size in enumerate(step.kernel.scratch):
            whole = (step.kernel.shares - 1) * aligned(size) + size
            found[number, part] = Lifetime(size=whole, first=number, last=number)
        for buffer in (*step.emitted.reads, *step.emitted.writes):
            if buffer in outside:
                continue
            shape = buffer_shape(tensors[buffer.tensor], buffer.layout)
            size = math.prod(shape) * np.dtype(buffer_dtype(buffer.layout)).itemsize
            first = found[buffer].first if buffer in found else number
            found[buffer] = Lifetime(size=size, first=first, last=number)
    return found
