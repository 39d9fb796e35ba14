"""Stores vectors of output values into the layouts of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer
from mpqdeploy.targets.kernels.epilogue.values import Evaluation
from mpqdeploy.targets.kernels.epilogue.vectors import Place, integer, ramp, vector_type
from mpqdeploy.targets.kernels.prefetch import prefetch_channels, prefetch_line
from mpqdeploy.targets.layout import CHANNEL_BLOCK, WORD, Layout, planes, stored_channels
from mpqdeploy.targets.program import Expr, Grid, Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """A layout's buffer seen otherwise. Declared once, behind all arguments: a declaration takes
    half a millisecond to emit, and a kernel may store bits hundreds of times [o].

    `row`: of bytes or tight layout, the bytes of a row of pixels one after the other. `parts`: the
    words of a bits layout as little endian parts of 8 or 16 bits, by those.
    """

    row: Any
    parts: Mapping[int, Any]

    @classmethod
    def of(cls, arg: Any, layout: Layout) -> Views:
        extents = [int(extent) for extent in arg.shape]
        if layout.kind == "bits":
            *outer, words = extents
            parts = {
                bits: T.decl_buffer([*outer, words * (WORD // bits)], f"uint{bits}", data=arg.data)
                for bits in (8, 16)
            }
            return cls(row=None, parts=parts)
        if layout.kind in ("bytes", "tight"):
            batch, height, width, stored = extents
            row = T.decl_buffer((batch, height, width * stored), "uint8", data=arg.data)
            return cls(row=row, parts={})
        return cls(row=None, parts={})


@dataclass(frozen=True, kw_only=True, eq=False)
class Writer:
    """Writes `value` to one layout of one tensor; `arg` is the layout's TIR buffer."""

    tensor: Tensor
    buffer: Buffer
    arg: Any
    views: Views
    value: Expr
    isa: Isa

    def store(self, evaluation: Evaluation, place: Place) -> None:
        """Stores the channels from `place.c` that exist, of one pixel."""
        if self.buffer.layout.kind == "float":
            self._store_floats(evaluation.real(self.value), place)
        elif self.buffer.layout.kind == "reals":
            self._store_channels(evaluation.real(self.value), place)
        elif self.buffer.layout.kind == "shorts":
            codes = evaluation.stored(self.value, self.grid)
            self._store_channels(T.cast(codes, vector_type("int16", place.lanes)), place)
        elif self.buffer.layout.kind == "bytes":
            self._store_bytes(evaluation.stored(self.value, self.grid), place)
        elif self.buffer.layout.kind == "tight":
            self._store_tight(evaluation.stored(self.value, self.grid), place)
        else:
            self._store_bits(evaluation, place)

    def prefetch(self, place: Place) -> None:
        """Ask for the lines where `store` will write; scattered floats are many lines, and none of
        them is asked for."""
        kind = self.buffer.layout.kind
        if kind in ("bytes", "shorts", "reals"):
            prefetch_channels(self.arg, self.pixel(place), place.c, place.lanes, write=True)
        elif kind == "bits":
            prefetch_line(self.arg[(*self.pixel(place), 0, place.c // WORD)], write=True)

    @property
    def grid(self) -> Grid:
        if self.tensor.grid is None:
            raise ValueError(f"{self.tensor.name} has no integer grid and can only be float")
        return self.tensor.grid

    @property
    def _channels(self) -> int:
        return self.tensor.shape[3]

    def pixel(self, place: Place) -> list[Any]:
        top, left, _, _ = self.buffer.layout.padding
        return [place.n, place.y + top, place.x + left]

    def _store_bytes(self, stored: Any, place: Place) -> None:
        stored, lanes = self._present(stored, place)
        codes = T.cast(stored, f"uint8x{lanes}")
        T.buffer_store(self.arg, codes, [*self.pixel(place), T.ramp(place.c, 1, lanes)])

    def _store_tight(self, stored: Any, place: Place) -> None:
        """The channels that exist one by one: those are up to 4, of one vector."""
        for channel in range(self._channels):
            code = stored if place.lanes == 1 else T.Shuffle([stored], [channel])
            T.buffer_store(self.arg, T.cast(code, "uint8"), [*self.pixel(place), channel])

    def _store_channels(self, value: Any, place: Place) -> None:
        value, lanes = self._present(value, place)
        T.buffer_store(self.arg, value, [*self.pixel(place), ramp(place.c, lanes)])

    def _present(self, vector: Any, place: Place) -> tuple[Any, int]:
        """The lanes of a vector that a pixel has room for, and how many those are."""
        lanes = min(place.lanes, stored_channels(self._channels))
        return (vector if lanes == place.lanes else T.Shuffle([vector], list(range(lanes)))), lanes

    def _store_bits(self, evaluation: Evaluation, place: Place) -> None:
        grid = self.grid
        for plane in range(planes(grid)):
            if grid.bipolar:
                bits = evaluation.positive(self.value)
            else:
                plane_bit = integer(1 << plane, place.lanes)
                stored = evaluation.stored(self.value, grid)
                bits = T.bitwise_and(stored, plane_bit) != integer(0, place.lanes)
            if self._channels % CHANNEL_BLOCK:
                exists = T.ramp(place.c, 1, place.lanes) < integer(self._channels, place.lanes)
                bits = T.And(exists, bits)
            self._store_mask(mask_of(bits, place.lanes, self.isa), plane, place)

    def _store_mask(self, mask: Any, plane: int, place: Place) -> None:
        """`mask`: uint32, bit i for channel place.c + i. Touches no bit of other channels."""
        pixel = [*self.pixel(place), plane]
        if stored_channels(self._channels) <= place.lanes:
            T.buffer_store(self.arg, mask, [*pixel, 0])
            return
        if place.lanes in (8, 16):
            part = self.views.parts[place.lanes]
            mask = T.cast(mask, f"uint{place.lanes}")
            T.buffer_store(part, mask, [*pixel, place.c // place.lanes])
            return
        word = [*pixel, place.c // WORD]
        shift = T.cast(place.c % WORD, "uint32")
        ones = T.shift_left(T.uint32((1 << place.lanes) - 1), shift)
        kept = T.bitwise_and(self.arg[tuple(word)], T.bitwise_not(ones))
        T.buffer_store(self.arg, T.bitwise_or(kept, T.shift_left(mask, shift)), word)

    def _store_floats(self, value: Any, place: Place) -> None:
        _, height, width, channels = self.tensor.shape
        contiguous = height == 1 and width == 1
        if place.lanes == 1:
            T.buffer_store(self.arg, value, [place.n, place.c, place.y, place.x])
        elif contiguous and channels % max(place.lanes, CHANNEL_BLOCK) == 0:  # no vector past C
            flat = T.decl_buffer((self.tensor.shape[0], channels), "float32", data=self.arg.data)
            T.buffer_store(flat, value, [place.n, ramp(place.c, place.lanes)])
        else:
            self._scatter_floats(value, place)

    def _scatter_floats(self, value: Any, place: Place) -> None:
        lanes = T.alloc_buffer((place.lanes,), "float32", scope="global")
        T.buffer_store(lanes, value, [T.ramp(0, 1, place.lanes)])
        for lane in range(place.lanes):
            channel = place.c + lane
            if isinstance(channel, int) or self._channels % CHANNEL_BLOCK == 0:
                if isinstance(channel, int) and channel >= self._channels:
                    continue
                T.buffer_store(self.arg, lanes[lane], [place.n, channel, place.y, place.x])
            else:
                with T.If(channel < self._channels), T.Then():
                    T.buffer_store(self.arg, lanes[lane], [place.n, channel, place.y, place.x])


def mask_of(bits: Any, lanes: int, isa: Isa) -> Any:
    """Bit i of the uint32 is lane i of the bool vector `bits`."""
    if lanes == 16 and isa is not Isa.PORTABLE:
        ones = T.cast(T.Select(bits, integer(-1, 16), integer(0, 16)), "int8x16")
        return T.cast(
            T.call_llvm_pure_intrin("int32", "llvm.x86.sse2.pmovmskb.128", ones), "uint32"
        )
    if lanes == 8 and isa is not Isa.PORTABLE:
        ones = T.reinterpret("float32x8", T.Select(bits, integer(-1, 8), integer(0, 8)))
        return T.cast(
            T.call_llvm_pure_intrin("int32", "llvm.x86.avx.movmsk.ps.256", ones), "uint32"
        )
    weights = T.shift_left(integer(1, lanes), T.ramp(0, 1, lanes))
    terms = T.Select(bits, weights, integer(0, lanes))
    return T.cast(
        T.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.or.v{lanes}i32", terms), "uint32"
    )
