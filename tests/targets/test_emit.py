from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, kernels_for
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.passes.emit import Module, emit
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.layout import plan_layouts
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.passes.select import select
from mpqdeploy.targets.program import Program
from mpqdeploy.targets.target import NAMED
from tests.targets import graphs


def emitted(
    program: Program, isa: Isa = Isa.PORTABLE, kernels: Sequence[Kernel] = KERNELS
) -> Module:
    choices = select(program, isa, kernels)
    layouts = plan_layouts(program, {name: choice.kernel for name, choice in choices.items()})
    return emit(program, choices, layouts, isa)


def kernels_of(module: Module) -> list[str]:
    return [v.name_hint for v in module.relax.functions if v.name_hint.startswith("kernel_")]


@pytest.fixture(scope="module")
def chain() -> tuple[Program, Module]:
    """Four equal layers between an input and an output layer."""
    program = integerize(normalize(graphs.conv_chain(1, channels=(3, 16, 16, 16, 16, 16, 5))))
    return program, emitted(program)


def test_equal_layers_share_one_function(chain: tuple[Program, Module]) -> None:
    program, module = chain
    # The input's quantizer, the first layer, the four equal ones, the last layer.
    assert len(program.steps) == 7
    assert len(kernels_of(module)) == 4


def test_equal_layers_keep_their_own_weights(chain: tuple[Program, Module]) -> None:
    program, module = chain
    inner = [step for step in program.steps if step.anchor is not None][1:5]
    packed = [
        np.concatenate([c.ravel().view(np.uint8) for c in module.emitted[s.name].constants])
        for s in inner
    ]
    assert len({bytes(data) for data in packed}) == 4


def test_the_module_has_main_trace_and_metadata(chain: tuple[Program, Module]) -> None:
    _, module = chain
    names = {v.name_hint for v in module.relax.functions}
    assert {"main", "trace", "metadata"} <= names
    trace = module.relax["trace"].ret_ty
    assert len(trace.fields) == len(module.traced)


def test_trace_returns_every_tensor_that_some_step_writes() -> None:
    program = integerize(normalize(graphs.residual(2)))
    module = emitted(program)
    written = {
        output.tensor
        for step in program.steps
        for output in step.outputs
        if program.consumers(output.tensor) or output.tensor in {p.tensor for p in program.outputs}
    }
    assert {buffer.tensor for buffer in module.traced} == written
    assert len(set(module.traced)) == len(module.traced)


def test_constant_bytes_count_every_array_once(chain: tuple[Program, Module]) -> None:
    _, module = chain
    arrays = [a for function in module.emitted.values() for a in function.constants]
    distinct = {(a.dtype.str, a.shape, a.tobytes()): a.nbytes for a in arrays}
    assert module.constant_bytes == sum(distinct.values())
    assert len({id(array) for array in arrays}) == len(distinct)


def test_the_system_is_asked_once_for_what_several_kernels_demand() -> None:
    program = integerize(normalize(graphs.conv_chain(1, channels=(3, 16, 16, 32))))
    target = NAMED["x86-64-amx"]
    module = emitted(program, target.isa, kernels_for(target.features))
    texts = {v.name_hint: f.script() for v, f in module.relax.functions_items()}
    asking = {name: text.count("syscall") for name, text in texts.items() if "syscall" in text}
    assert asking == {"main_kernels": 1, "trace_kernels": 1}  # the chain of a run, that of a trace
    assert len([text for text in texts.values() if "llvm.x86.tdpbusd" in text]) == 3
