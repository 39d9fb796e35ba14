"""Vectors of TIR values, the places where they lie, and function arguments for buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.base import Buffer, Tensors
from mpqdeploy.targets.layout import Layouts, buffer_dtype, buffer_shape


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a vector of values lies; every position is an int or a TIR expression.

    axis "channel": channels c .. c+lanes-1 of pixel (n, y, x).
    axis "row": pixels (n, y, x .. x+lanes-1) of channel c.
    """

    n: Any
    y: Any
    x: Any
    c: Any
    lanes: int
    axis: Literal["channel", "row"] = "channel"


def spread(value: Any, lanes: int) -> Any:
    """A scalar in every lane."""
    return value if lanes == 1 else T.broadcast(value, lanes)


def vector_type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def real(value: float, lanes: int) -> Any:
    return spread(T.float32(float(value)), lanes)


def integer(value: int, lanes: int) -> Any:
    return spread(T.int32(int(value)), lanes)


def byte(value: int, lanes: int) -> Any:
    return spread(T.uint8(value), lanes)


def ramp(base: Any, lanes: int) -> Any:
    return base if lanes == 1 else T.ramp(base, 1, lanes)


def readable(tensor: str, layouts: Layouts) -> Buffer:
    """The buffer through which a `Load` reads: bytes, else shorts, else reals, else float."""
    for kind in ("bytes", "shorts", "reals", "float"):
        for layout in layouts[tensor]:
            if layout.kind == kind:
                return Buffer(tensor=tensor, layout=layout)
    raise ValueError(f"{tensor} has no bytes, shorts, reals or float layout to load from")


def declare(name: str, buffer: Buffer, tensors: Tensors) -> Any:
    """One function argument for `buffer`; call between `T.func_name` and the function's body."""
    shape = buffer_shape(tensors[buffer.tensor], buffer.layout)
    return T.arg(name, T.buffer(shape, buffer_dtype(buffer.layout)))
