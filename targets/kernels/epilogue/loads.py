"""`Source`: reads the elements of another tensor that a `Load` names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.base import Buffer, Tensors
from mpqdeploy.targets.kernels.epilogue.vectors import Place, ramp, real, vector_type
from mpqdeploy.targets.layout import storage_offset, stored_channels, zero_code
from mpqdeploy.targets.program import Load


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """`arg` is the TIR buffer of `buffer`, a bytes or float layout of the loaded tensor."""

    tensors: Tensors
    buffer: Buffer
    arg: Any
    load: Load

    def channels(self, place: Place, needed: int) -> Any:
        """A vector over channels, float32; lanes at or past channel `needed` may hold anything."""
        lanes = place.lanes
        present = self.tensors[self.load.tensor].shape[3]
        offset = self.load.channel_offset
        if self.buffer.layout.kind == "bytes" and stored_channels(present) >= lanes:
            if offset == 0 and needed <= present:
                return self._contiguous(place, place.c)
            if offset % lanes == 0 and present % lanes == 0:
                return self._whole(place, place.c - offset)
        return self._gather([(place.y, place.x, place.c + lane) for lane in range(lanes)], place)

    def row(self, place: Place) -> Any:
        """A vector over pixels of a row, float32."""
        outside = self._outside(place.c)
        direct = self.load.stride[1] == 1 and outside is False
        if self.buffer.layout.kind == "float" and direct:
            y = place.y * self.load.stride[0]
            return self.arg[
                place.n, place.c - self.load.channel_offset, y, ramp(place.x, place.lanes)
            ]
        pixels = [(place.y, place.x + lane, place.c) for lane in range(place.lanes)]
        return self._gather(pixels, place)

    def _contiguous(self, place: Place, channel: Any) -> Any:
        y, x = self._pixel(place.y, place.x)
        return self._code(self.arg[place.n, y, x, ramp(channel, place.lanes)], place.lanes)

    def _whole(self, place: Place, channel: Any) -> Any:
        """The vector lies in the source as a whole, or outside it as a whole."""
        outside = self._outside(channel + self.load.channel_offset)
        zero = real(self._zero(), place.lanes)
        if outside is True:
            return zero
        if outside is False:
            return self._contiguous(place, channel)
        return T.if_then_else(outside, zero, self._contiguous(place, channel))

    def _gather(self, elements: list[tuple[Any, Any, Any]], place: Place) -> Any:
        """Lane by lane, through a small buffer."""
        if len(elements) == 1:
            return self._element(place.n, *elements[0])
        lanes = T.alloc_buffer((len(elements),), "float32", scope="global")
        for lane, (y, x, c) in enumerate(elements):
            T.buffer_store(lanes, self._element(place.n, y, x, c), [lane])
        return lanes[ramp(0, len(elements))]

    def _element(self, n: Any, y: Any, x: Any, c: Any) -> Any:
        outside = self._outside(c)
        zero = T.float32(self._zero())
        if outside is True:
            return zero
        row, column = self._pixel(y, x)
        channel = c - self.load.channel_offset
        if self.buffer.layout.kind == "float":
            value = self.arg[n, channel, row, column]
        else:
            value = self._code(self.arg[n, row, column, channel], 1)
        return value if outside is False else T.if_then_else(outside, zero, value)

    def _outside(self, c: Any) -> Any:
        """Whether channel `c` of the reader is no channel of the source: a bool or a condition."""
        offset = self.load.channel_offset
        present = self.tensors[self.load.tensor].shape[3]
        if isinstance(c, int):
            return not 0 <= c - offset < present
        return T.Or(c < offset, c >= offset + present)

    def _pixel(self, y: Any, x: Any) -> tuple[Any, Any]:
        top, left, _, _ = self.buffer.layout.padding
        stride = self.load.stride
        return y * stride[0] + top, x * stride[1] + left

    def _code(self, stored: Any, lanes: int) -> Any:
        grid = self.tensors[self.load.tensor].grid
        if grid is None:
            raise ValueError(f"{self.load.tensor} lies in bytes but has no grid")
        value = T.cast(stored, vector_type("float32", lanes))
        offset = storage_offset(grid)
        return value + real(offset, lanes) if offset else value

    def _zero(self) -> float:
        tensor = self.tensors[self.load.tensor]
        return float(zero_code(tensor)) if tensor.grid else 0.0
