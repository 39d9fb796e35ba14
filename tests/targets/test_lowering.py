"""TVM's passes that are left out: they are passes of this TVM, and change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.ir.instrument import pass_instrument

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import KERNELS, Kernel
from mpqdeploy.targets.lowering import LEFT_OUT, compile_tir, lowering
from mpqdeploy.targets.target import load_target
from tests.targets.kernels.test_contract import CASES, readable

VNNI = load_target("x86-64-vnni")
PAIRS = [("dot_vnni", "8/8"), ("dot_vnni", "2/2"), ("carry_save", "1/1"), ("winograd_vnni", "4/4")]


@pass_instrument
class Names:
    """The passes that ran."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def run_before_pass(self, module: Any, info: Any) -> None:
        self.seen.add(str(info.name))


def function(name: str, case: str) -> Any:
    kernel: Kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    whole = readable(kernel, CASES[case])
    schedule = kernel.schedules(whole.step, whole.tensors, Isa.VNNI)[0]
    emitted = kernel.emit(whole.step, whole.tensors, whole.layouts, Isa.VNNI, schedule)
    return emitted.func.with_attr("global_symbol", "kernel")


def test_passes_are_left_out_that_tvm_would_run() -> None:
    """A name that TVM does not know would be ignored without a word."""
    names, given = Names(), function("dot_vnni", "8/8")
    with tvm.transform.PassContext(instruments=[names]):
        tvm.compile(given, target=VNNI.tvm_target())
    assert names.seen.issuperset(LEFT_OUT)
    context = lowering()
    assert set(context.disabled_pass) == set(LEFT_OUT)


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_the_machine_code_is_the_same(name: str, case: str) -> None:
    given = function(name, case)
    whole = tvm.compile(given, target=VNNI.tvm_target())
    quick = compile_tir(given, VNNI)
    assert quick.mod.inspect_source("s") == whole.mod.inspect_source("s")
