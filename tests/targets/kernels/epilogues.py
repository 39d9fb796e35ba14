"""Kernels that are nothing but an epilogue: every test has loops of its own over the output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Step


class EpilogueKernel:
    """Stores no anchor's sums, only what the expressions load."""

    name = "epilogue"
    version = 1
    tables = False

    @property
    def features(self) -> tuple[str, ...]:
        """What it needs of a CPU beyond its level."""
        return ("avx512vbmi",) if self.tables else ()

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return True

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return ({},)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return None

    @abstractmethod
    def lanes_on(self, isa: Isa) -> int:
        """Lanes of the epilogue's vectors."""

    @abstractmethod
    def store_all(self, epilogue: Any) -> None:
        """Emits the loops over the output, and every store."""

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue

        lanes = self.lanes_on(isa)
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa, tables=self.tables)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(self.name)
            epilogue.declare_reads()
            epilogue.declare_constants()
            epilogue.declare_writes()
            self.store_all(epilogue)
            epilogue.fill_borders()
        return Emitted(
            func=ib.get(),
            reads=epilogue.reads,
            constants=epilogue.constants,
            writes=epilogue.writes,
        )
