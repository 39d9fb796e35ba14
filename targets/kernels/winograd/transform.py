"""The transforms of minimal filtering as TIR: additions of whole vectors, no multiplication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpqdeploy.targets.kernels.winograd.filtering import Filtering, Matrix


def both_ways(matrix: Matrix, values: Sequence[Sequence[Any]], dtype: str) -> list[list[Any]]:
    """matrix * values * matrix^T, elementwise over vectors of `dtype`, modulo its width."""
    rows = [_combined(matrix, column, dtype) for column in zip(*values, strict=True)]
    # rows[c][r]: row r of the product, column c of the values.
    return [
        _combined(matrix, [column[r] for column in rows], dtype) for r in range(matrix.shape[0])
    ]


def divided(value: Any, filtering: Filtering, lanes: int) -> Any:
    """An int32 vector of multiples of q^2, divided by that."""
    from tvm.script.ir_builder import tirx as T

    if filtering.shift is not None:
        return T.shift_right(value, T.broadcast(T.int32(filtering.shift), lanes))
    # Off by less than half before rounding, as `fits` has made sure: four instructions, where an
    # integer division by a constant takes twice as many.
    inverse = T.broadcast(T.float32(1 / filtering.divisor**2), lanes)
    quotient = T.nearbyint(T.cast(value, f"float32x{lanes}") * inverse)
    return T.cast(quotient, f"int32x{lanes}")


def _combined(matrix: Matrix, values: Sequence[Any], dtype: str) -> list[Any]:
    """matrix * values, as bound vectors."""
    from tvm.script.ir_builder import tirx as T

    bound = [T.bind(value) for value in values]
    found = []
    for row in matrix.tolist():
        terms = [(factor, value) for factor, value in zip(row, bound, strict=True) if factor]
        terms.sort(key=lambda term: term[0] < 0)  # begin with a positive term, if there is one
        total: Any = None
        for factor, value in terms:
            part = _times(value, abs(factor))
            if total is None:
                total = part if factor > 0 else _zero(dtype) - part
            else:
                total = total + part if factor > 0 else total - part
        found.append(T.bind(total))
    return found


def _times(value: Any, factor: int) -> Any:
    """`factor` * value by doubling: there is no multiplication of bytes."""
    if factor == 1:
        return value
    half = _times(value, factor // 2)
    return half + half + value if factor % 2 else half + half


def _zero(dtype: str) -> Any:
    from tvm.script.ir_builder import tirx as T

    base, lanes = dtype.split("x")
    return T.broadcast(getattr(T, base)(0), int(lanes))
