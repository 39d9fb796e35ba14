"""Rows of tables of what four activations can add up to: built once per input row.

A byte shuffle looks 16 output channels up in a table at once, for four (AVX-512) or two (AVX2)
pixels side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.lookup_build import (
    CHUNK,
    GROUPS,
    TABLE,
    Builder,
    builder,
    pixels_per_vector,
)


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """A ring of rows of tables, `[rows, phases, groups, slots * 16]` bytes.

    Column x of the padded input is slot x // stride of phase x % stride: the pixels that one tap
    needs for consecutive outputs lie side by side whatever the stride.
    """

    geometry: Dense
    isa: Isa
    largest: int
    signs: bool

    @cached_property
    def builder(self) -> Builder:
        return builder(self.isa, self.largest, signs=self.signs)

    @property
    def span(self) -> int:
        """Input rows that one output row reads."""
        return (self.geometry.kernel[0] - 1) * self.geometry.dilation[0] + 1

    @property
    def groups(self) -> int:
        return -(-self.geometry.in_channels // CHUNK) * GROUPS

    @property
    def slots(self) -> int:
        """Slots of a row, up to the last that the last, possibly partial vector reads."""
        wide = pixels_per_vector(self.isa)
        columns = (self.geometry.kernel[1] - 1) * self.geometry.dilation[1]
        shift = columns // self.geometry.stride[1]
        return -(-(-(-self.geometry.out_width // wide) * wide + shift) // wide) * wide

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.span, self.geometry.stride[1], self.groups, self.slots * TABLE)

    def build(self, source: Any, tables: Any, n: Any, row: Any, origin: tuple[int, int]) -> None:
        """Emit the loops that build input row `row` (counted from `origin`) into its ring slot."""
        from tvm.script.ir_builder import tirx as T

        wide = pixels_per_vector(self.isa)
        size = wide * TABLE
        stride = self.geometry.stride[1]
        width = source.shape[2]
        ring = row % self.span
        with (
            T.serial(0, stride) as phase,
            T.serial(0, self.slots // wide) as slot,
            T.serial(0, self.groups // GROUPS) as chunk,
        ):
            pixels = []
            for lane in range(wide):
                column = (slot * wide + lane) * stride + phase + origin[1]
                place = [n, row + origin[0], T.min(column, width - 1)]
                pixels.append(source[(*place, T.ramp(chunk * CHUNK, 1, CHUNK))])
            stored = T.bind(self._existing(T.Shuffle(pixels, list(range(size))), chunk, size))
            for group, table in enumerate(self.builder.tables(stored)):
                at = T.ramp(slot * size, 1, size)
                T.buffer_store(tables, table, [ring, phase, chunk * GROUPS + group, at])

    def _existing(self, stored: Any, chunk: Any, size: int) -> Any:
        """Undefined channels cleared, where weights cannot: signs are never 0."""
        from tvm.script.ir_builder import tirx as T

        chunks, rest = divmod(self.geometry.in_channels, CHUNK)
        if not self.signs or not rest:
            return stored
        channel = T.ramp(0, 1, size) % T.broadcast(T.int32(CHUNK), size)
        limit = T.Select(chunk == chunks, T.int32(rest), T.int32(CHUNK))
        exists = channel < T.broadcast(limit, size)
        return T.Select(exists, stored, T.broadcast(T.uint8(0), size))
