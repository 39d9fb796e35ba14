"""Transposing 32 x 32 bits in every lane of 32 vectors at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpqdeploy.targets.layout import WORD

_ALL = (1 << WORD) - 1


def transpose(matrix: Any, place: Sequence[Any], first: Any, lanes: int) -> None:
    """Bit k of `matrix[*place, first + r]` becomes bit r of `matrix[*place, first + k]`.

    `matrix`: uint32 vectors of `lanes` lanes. Squares on the diagonal's two sides change places, of
    16 bits, then 8, ... (Warren, Hacker's Delight, ch. 7).
    """
    from tvm.script.ir_builder import tirx as T

    index = T.ramp(0, 1, lanes)
    size = WORD // 2
    while size:
        low = T.broadcast(T.uint32(_ALL // ((1 << size) + 1)), lanes)
        high, by = T.bitwise_not(low), T.broadcast(T.uint32(size), lanes)
        with T.serial(0, WORD // 2) as pair:
            row = first + pair // size * (2 * size) + pair % size
            above = T.bind(matrix[(*place, row, index)])
            below = T.bind(matrix[(*place, row + size, index)])
            raised = T.bitwise_and(T.shift_left(below, by), high)
            lowered = T.bitwise_and(T.shift_right(above, by), low)
            one = T.bitwise_or(T.bitwise_and(above, low), raised)
            other = T.bitwise_or(T.bitwise_and(below, high), lowered)
            T.buffer_store(matrix, one, [*place, row, index])
            T.buffer_store(matrix, other, [*place, row + size, index])
        size //= 2
