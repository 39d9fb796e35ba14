"""`Counted`: what the kernels that count bits share of a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.flush import Store
from mpqdeploy.targets.kernels.geometry import (
    Dense,
    dense,
    dense_operand,
    operand_of_dense,
    stored_zero,
)
from mpqdeploy.targets.kernels.popcount.border import Border, Finish
from mpqdeploy.targets.kernels.popcount.words import Terms, pack_words, start_constants
from mpqdeploy.targets.program import Conv, Grid, Step, Tensor

MAX_ACT_BITS = 2


def countable(step: Step, tensors: Tensors) -> tuple[Conv, Tensor, Grid] | None:
    """`dense_operand` of a step whose activations may be read as words of bits."""
    found = dense_operand(step, tensors)
    if found is None:
        return None
    _, tensor, grid = found
    # The border of a bipolar layout stands for -1 and is corrected; no other zero point is.
    bordered = not grid.bipolar or stored_zero(tensor, grid) == 1
    return found if grid.bits <= MAX_ACT_BITS and bordered else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """A convolution as counts of words: `words` and `start` are its packed constants."""

    conv: Conv
    tensor: Tensor
    geometry: Dense
    terms: Terms
    start: NDArray[np.int32]
    lanes: int

    @classmethod
    def of(cls, step: Step, tensors: Tensors, lanes: int) -> Counted:
        conv, tensor, grid = operand_of_dense(step, tensors)
        zero = 0 if grid.bipolar else stored_zero(tensor, grid)
        return cls(
            conv=conv,
            tensor=tensor,
            geometry=dense(step, tensors),
            terms=Terms.of(grid, conv.weight_grid),
            start=start_constants(conv.weights, conv.weight_grid, grid, zero, lanes),
            lanes=lanes,
        )

    @cached_property
    def words(self) -> NDArray[Any]:
        return pack_words(self.conv.weights, self.conv.weight_grid, self.lanes)

    @property
    def planes(self) -> int:
        """Bit planes of the activations."""
        return len(self.terms.factors)

    def border(self) -> Border:
        return Border(self.geometry, self.tensor, self.conv.weight_grid, self.words.shape)

    def finishing(self, starts: Any, store: Store) -> Finish:
        """Stores start + scale * counts + correction; `starts`: the buffer of `start`."""
        from tvm.script.ir_builder import tirx as T

        def finished(counts: Any, n: Any, y: Any, x: Any, channel: Any, correction: Any) -> None:
            total = starts[T.ramp(channel, 1, self.lanes)] + counts * self.terms.scale
            store(total if correction is None else total + correction, n, y, x, channel)

        return finished
