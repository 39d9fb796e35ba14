"""Tables of what four activations can add up to, built once per input row.

For four stored activations s_0..s_3 of a pixel, the table holds one byte for each of the 16 sets of
weight bits j:

    ones (weights of bits b): t[j] = sum over i of b_i s_i               b_i = bit i of j
    signs (weights 2b - 1):   t[j] = sum over i of b_i s_i + (1 - b_i) (m - s_i),  m = 2^k - 1 >= s

so that sum(w s) = sum(t) - m * (number of -1 weights) for signs: a constant per output channel. A
byte shuffle then looks 16 output channels up at once, four (AVX-512) or two (AVX2) pixels wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import Dense

GROUP = 4  # activations of one table
TABLE = 16  # bytes of one table, and output channels of one lookup
CHUNK = 16  # channels whose bytes one shuffle reads


def pixels_per_vector(isa: Isa) -> int:
    return {Isa.VNNI: 4, Isa.AVX2: 2}[isa]


def shuffle(isa: Isa, table: Any, index: Any) -> Any:
    """Bytes `table[index]` within every 16 bytes."""
    from tvm.script.ir_builder import tirx as T

    size = pixels_per_vector(isa) * TABLE
    name = {Isa.VNNI: "llvm.x86.avx512.pshuf.b.512", Isa.AVX2: "llvm.x86.avx2.pshuf.b"}[isa]
    return T.call_llvm_pure_intrin(f"uint8x{size}", name, table, index)


def repeat(isa: Isa, vector: Any) -> Any:
    """16 bytes, once per pixel of a vector."""
    from tvm.script.ir_builder import tirx as T

    wide = pixels_per_vector(isa)
    return T.Shuffle([vector] * wide, list(range(TABLE * wide)))


def patterns(mask: int | None) -> NDArray[np.uint8]:
    """Constants of the construction, `[5, GROUP, 16]` bytes.

    Rows 0..3, for each of the four activations of that group: the shuffle that copies it to all 16
    entries; where `mask` is None (ones) only to those whose bit is set (0x80 gives 0). Row 4: the
    exclusive or that turns s into m - s where the bit is clear (`mask` = m).
    """
    bit = np.arange(TABLE) >> np.arange(GROUP)[:, None] & 1
    source = np.arange(CHUNK).reshape(CHUNK // GROUP, GROUP, 1) * np.ones((1, 1, TABLE), np.uint8)
    copies = source if mask is not None else np.where(bit, source, 0x80)
    flips = np.where(bit, 0, mask or 0)[None]
    return np.concatenate([copies, flips]).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """A ring of rows of tables, `[rows, phases, groups, slots * 16]` bytes.

    Column x of the padded input is slot x // stride of phase x % stride: the pixels that one tap
    needs for consecutive outputs lie side by side whatever the stride.
    """

    geometry: Dense
    isa: Isa
    mask: int | None

    @property
    def span(self) -> int:
        """Input rows that one output row reads."""
        return (self.geometry.kernel[0] - 1) * self.geometry.dilation[0] + 1

    @property
    def groups(self) -> int:
        return -(-self.geometry.in_channels // CHUNK) * (CHUNK // GROUP)

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

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape))

    def build(
        self, source: Any, constants: Any, tables: Any, n: Any, row: Any, origin: tuple[int, int]
    ) -> None:
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
            T.serial(0, self.groups * GROUP // CHUNK) as chunk,
        ):
            pixels = []
            for lane in range(wide):
                column = (slot * wide + lane) * stride + phase + origin[1]
                place = [n, row + origin[0], T.min(column, width - 1)]
                pixels.append(source[(*place, T.ramp(chunk * CHUNK, 1, CHUNK))])
            stored = T.bind(self._existing(T.Shuffle(pixels, list(range(size))), chunk, size))
            for group in range(CHUNK // GROUP):
                table = self._table(constants, stored, group)
                at = T.ramp(slot * size, 1, size)
                T.buffer_store(tables, table, [ring, phase, chunk * (CHUNK // GROUP) + group, at])

    def _table(self, constants: Any, stored: Any, group: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        total = None
        for i in range(GROUP):
            copy = repeat(self.isa, constants[group, i, T.ramp(0, 1, TABLE)])
            value = shuffle(self.isa, stored, copy)
            if self.mask is not None:
                flip = constants[CHUNK // GROUP, i, T.ramp(0, 1, TABLE)]
                value = T.bitwise_xor(value, repeat(self.isa, flip))
            total = value if total is None else total + value
        return total

    def _existing(self, stored: Any, chunk: Any, size: int) -> Any:
        """Undefined channels cleared, where weights cannot: signs are never 0."""
        from tvm.script.ir_builder import tirx as T

        chunks, rest = divmod(self.geometry.in_channels, CHUNK)
        if self.mask is None or not rest:
            return stored
        channel = T.ramp(0, 1, size) % T.broadcast(T.int32(CHUNK), size)
        limit = T.Select(chunk == chunks, T.int32(rest), T.int32(CHUNK))
        exists = channel < T.broadcast(limit, size)
        return T.Select(exists, stored, T.broadcast(T.uint8(0), size))
