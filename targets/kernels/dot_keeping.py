"""Narrow weights that the first block of pixels restores, in registers, and keeps for the others.

Restoring a tile's weights before its products costs the operations, and the time in which packed
weights arrive from a second-level cache. Between the products of a first block both take nearly
nothing: 960 to 320 channels on 7 x 7 at 4 bits 45.0 to 42.0 us, 40.6 with weights of 8 bits [o].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.dot_inner import GROUP, DotInner, Load, Micro
from mpqdeploy.targets.kernels.flush import Block
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.packing import Weights, byte_type
from mpqdeploy.targets.kernels.register_tiles import Tile


class KeepingInner(DotInner):
    """A `DotInner` that reads what `restore` has kept of its weights, lifted ones as such.

    `fresh` holds from `begin` to `restored`: nothing of the part is kept yet.
    """

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        weights: Weights,
        vectors: int,
        step: int | None,
        **sizes: int,
    ) -> None:
        """`sizes`: see `DotInner`. Raises `ValueError` where no `step` of several groups is given,
        as weights are then not restored in registers."""
        if step is None:
            raise ValueError("weights that are kept are restored in registers, a step at a time")
        super().__init__(geometry, micro, weights, vectors, step, **sizes)
        self._number = step * vectors  # of a step's vectors
        self._codes = micro.isa.lanes * GROUP
        self._kept: Any = None
        self._fresh: Any = None

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        super().allocate()
        kind = byte_type(self._weights.grid)
        self._kept = T.alloc_buffer((self._weights.length,), kind, scope="global")
        self._fresh = T.alloc_buffer((1,), "int32", scope="global")

    def begin(self, part: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        super().begin(part)
        T.buffer_store(self._fresh, T.int32(1), [0])

    @property
    def fresh(self) -> Any:
        return self._fresh[0] != 0

    def restored(self) -> None:
        """All of the part's weights are kept now."""
        from tvm.script.ir_builder import tirx as T

        T.buffer_store(self._fresh, T.int32(0), [0])

    def restore(self, position: Any) -> None:
        """Keep the weights of a step. LLVM hands on what is stored and read again at once."""
        from tvm.script.ir_builder import tirx as T

        for number in range(self._number):
            codes = super()._loader(position, number)(0, self._codes)
            at = T.ramp(self._at(position, number), 1, self._codes)
            T.buffer_store(self._kept, codes, [at])

    def _at(self, position: Any, number: int) -> Any:
        return (position * self._number + number) * self._codes

    def _loader(self, position: Any, number: int) -> Load:
        from tvm.script.ir_builder import tirx as T

        at = self._at(position, number)
        return lambda start, count: self._kept[T.ramp(at + start, 1, count)]


class KeepingNest(RegisterNest):
    """Of a `KeepingInner`: emits the products of a block twice, once as those of a first one."""

    def __init__(self, geometry: Dense, isa: Isa, tile: Tile, inner: KeepingInner) -> None:
        super().__init__(geometry, isa, tile, inner)
        self._keeping = inner
        self._restores = False

    def _accumulate(self, origin: tuple[int, int], block: Block, o: Any, part: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        with T.If(self._keeping.fresh):
            with T.Then():
                self._restores = True
                super()._accumulate(origin, block, o, part)
                self._restores = False
                self._keeping.restored()
            with T.Else():
                super()._accumulate(origin, block, o, part)

    def _add(self, block: Block, position: Any, activations: Callable[[Any, Any], Any]) -> None:
        if self._restores:
            self._keeping.restore(position)
        super()._add(block, position, activations)
