"""`Source`: reads the elements of another tensor that a `Load` names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.base import Buffer, Tensors
from mpqdeploy.targets.kernels.epilogue.vectors import Place, ramp, real, vector_type
from mpqdeploy.targets.layout import storage_offset, stored_channels, zero_code
from mpqdeploy.targets.program import Load
from mpqdeploy.targets.views import Conditions, Resample, follow


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """`arg` is the TIR buffer of `buffer`, a layout of the loaded tensor that `readable` names."""

    tensors: Tensors
    buffer: Buffer
    arg: Any
    load: Load

    def channels(self, place: Place, needed: int) -> Any:
        """A vector over channels, float32; lanes at or past channel `needed` may hold anything."""
        lanes = place.lanes
        present = self.tensors[self.load.tensor].shape[3]
        offset = self.load.channel_offset
        if self.buffer.layout.kind != "float" and stored_channels(present) >= lanes:
            if self.load.views:
                return self._seen(place, needed)
            if offset == 0 and needed <= present:
                return self._contiguous(place, place.c)
            if offset % lanes == 0 and present % lanes == 0:
                return self._whole(place, place.c - offset)
        return self._lanes(place)

    def _seen(self, place: Place, needed: int) -> Any:
        """As `channels`, where the load has views: a vector where they keep a pixel's channels
        together, with one condition for all of them."""
        plain = all(isinstance(view, Resample) and view.keeps_channels for view in self.load.views)
        if not plain or self.load.channel_offset or needed > self._present:
            return self._lanes(place)
        (y, x, c), conditions = follow(self.load.views, (place.y, place.x, place.c), _hidden)
        found = self._contiguous(replace(place, y=y, x=x), c)
        if not conditions:
            return found
        return T.if_then_else(_all(conditions), found, real(self._zero(), place.lanes))

    def _lanes(self, place: Place) -> Any:
        channels = [(place.y, place.x, place.c + lane) for lane in range(place.lanes)]
        return self._gather(channels, place)

    def row(self, place: Place) -> Any:
        """A vector over pixels of a row, float32."""
        outside = self._outside(place.c)
        direct = self.load.stride[1] == 1 and outside is False and not self.load.views
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
        if self.load.views:
            return self._seen_element(n, (y, x, c))
        outside = self._outside(c)
        zero = T.float32(self._zero())
        if outside is True:
            return zero
        value = self._stored(n, y, x, c - self.load.channel_offset)
        return value if outside is False else T.if_then_else(outside, zero, value)

    def _stored(self, n: Any, y: Any, x: Any, channel: Any) -> Any:
        row, column = self._pixel(y, x)
        if self.buffer.layout.kind == "float":
            return self.arg[n, channel, row, column]
        return self._code(self.arg[n, row, column, channel], 1)

    def _seen_element(self, n: Any, at: tuple[Any, Any, Any]) -> Any:
        """One element through the views; the last channels of a vector may be none of the result's,
        which could lead anywhere, and so every channel is bounded."""
        (y, x, c), conditions = follow(self.load.views, at, _hidden)
        channel = c - self.load.channel_offset
        limits = (*conditions, (channel, self._present))
        return T.if_then_else(_all(limits), self._stored(n, y, x, channel), T.float32(self._zero()))

    @property
    def _present(self) -> int:
        return self.tensors[self.load.tensor].shape[3]

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
            return stored  # reals
        value = T.cast(stored, vector_type("float32", lanes))
        offset = storage_offset(grid)
        return value + real(offset, lanes) if offset else value

    def _zero(self) -> float:
        tensor = self.tensors[self.load.tensor]
        return float(zero_code(tensor)) if tensor.grid else 0.0


def _all(conditions: Conditions) -> Any:
    """Whether all hold; positions that are known at compile time take no instruction."""
    known = [(i, extent) for i, extent in conditions if isinstance(i, int)]
    result: Any = T.bool(all(0 <= i < extent for i, extent in known))
    for index, extent in conditions:
        if not isinstance(index, int):
            result = T.And(result, T.And(index >= 0, index < extent))
    return result


def _hidden(index: Any) -> Any:
    """An index of 0 or more, as one whose terms TVM does not see: what is divided of indices that
    fall it may take for another number where it merges quotients and remainders into a place of a
    flattened buffer, (9 - i) // 4 * 2 + (5 - i) // 2 % 2 for 4 + i // -2."""
    if isinstance(index, int):
        return index
    return T.call_llvm_pure_intrin("int32", "llvm.smax.i32", index, T.int32(0))
