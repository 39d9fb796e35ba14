"""Weights stored at their own width, and the vector code that restores them to bytes.

A code of b bits is stored as an unsigned number (code - lowest code of the full grid) that is split
into fields of 8, 4, 2 and 1 bits, one array per field: 3 = 2+1, 5 = 4+1, 6 = 4+2, 7 = 4+2+1. So any
width takes exactly b/8 bytes per weight, and a field never straddles a byte.

Within a field of width f, a vector of V bytes holds 8/f runs of V consecutive codes: byte j holds
codes j, V+j, 2V+j, ... from its low bits up. Restoring a run is one shift and one mask.

Codes are restored either a tile at a time into scratch, which pays where many pixels read them, or
where they are read, in registers, which pays where few do. In registers, signed codes of one field
are left in the high bits of their byte, as the code times a power of two (`lifted`): a mask, and a
shift for all runs but the last, restore the sign at no further cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.prefetch import LINE, prefetch_line
from mpqdeploy.targets.kernels.storable import STORED_BITS
from mpqdeploy.targets.program import Grid

VECTOR_BYTES = 64  # longest vector of packed bytes; LLVM splits it where registers are shorter
MULTIPLE = 16  # codes of a tile are padded to this: a vector of two bytes of a 1-bit field


def field_widths(bits: int) -> tuple[int, ...]:
    """The fields of a code, low bits first: widths from {1, 2, 4, 8} that add up to `bits`."""
    return tuple(width for width in (8, 4, 2, 1) if bits & width)


def unpacked_at_once(grid: Grid) -> int:
    """Consecutive codes that one set of packed vectors holds: the unit of reading in registers."""
    return VECTOR_BYTES * (8 // min(field_widths(code_bits(grid))))


def lifted(grid: Grid) -> int:
    """Log2 of the factor by which codes that are restored in registers are multiplied."""
    if grid.bipolar:
        return 6  # the sign bit over a constant 1: 0x40 = 64 or 0xC0 = -64
    return 8 - grid.bits if grid.signed and len(field_widths(grid.bits)) == 1 else 0


def code_bits(grid: Grid) -> int:
    """Stored bits per code: a bipolar code is one bit, 1 for +1."""
    return 1 if grid.bipolar else grid.bits


def is_narrow(grid: Grid) -> bool:
    """Whether codes take less than a byte each."""
    return code_bits(grid) < STORED_BITS


def byte_type(grid: Grid) -> str:
    """Type of a restored code: int8, and uint8 on the one grid that exceeds it."""
    return "uint8" if grid.high > 127 else "int8"


@dataclass(frozen=True)
class _Block:
    """`count` blocks of `runs` vectors of `lanes` codes each, from code `start` of a tile.

    The number of runs is that which fills whole bytes of the narrowest field.
    """

    start: int
    lanes: int
    runs: int
    count: int

    @property
    def codes(self) -> int:
        return self.lanes * self.runs * self.count


def _blocks(length: int, bits: int) -> Iterator[_Block]:
    """Cut a tile into blocks, those of the longest vectors first, with no padding at the end."""
    start, lanes, runs = 0, VECTOR_BYTES, 8 // min(field_widths(bits))
    while start < length:
        count = (length - start) // (lanes * runs)
        if count:
            yield _Block(start, lanes, runs, count)
        start += count * lanes * runs
        lanes //= 2


def _split_field(values: NDArray[np.uint8], width: int, bits: int) -> NDArray[np.uint8]:
    """Pack `[tiles, length]` numbers of `width` bits into `[tiles, length * width / 8]` bytes."""
    per_byte = 8 // width
    tiles, length = values.shape
    shifts = np.arange(per_byte, dtype=np.uint8)[:, None] * np.uint8(width)
    parts = []
    for block in _blocks(length, bits):
        part = values[:, block.start : block.start + block.codes]
        shape = (tiles, block.codes // (per_byte * block.lanes), per_byte, block.lanes)
        joined = np.bitwise_or.reduce(part.reshape(shape) << shifts, axis=2)
        parts.append(joined.reshape(tiles, -1))
    return np.concatenate(parts, axis=1)


def pack(
    codes: NDArray[Any], grid: Grid, *, in_registers: bool = False
) -> tuple[NDArray[Any], ...]:
    """Pack integer codes `[tiles, length]` into one array `[tiles, bytes]` per field.

    `length` is padded to a multiple of `MULTIPLE`. Codes of 8 bits stay as they are (`byte_type`).
    `in_registers`: codes that will be `lifted` are in two's complement, and +1 and -1 are 0 and 1.
    """
    missing = -codes.shape[1] % MULTIPLE
    if not is_narrow(grid):
        return (np.pad(codes, ((0, 0), (0, missing))).astype(byte_type(grid)),)
    lowest = -(1 << (grid.bits - 1)) if grid.signed else 0
    if in_registers and lifted(grid):
        stored = codes < 0 if grid.bipolar else codes & ((1 << grid.bits) - 1)
    else:
        stored = codes > 0 if grid.bipolar else codes - lowest
    rest = np.pad(stored, ((0, 0), (0, missing))).astype(np.uint8)
    fields = []
    for width in field_widths(code_bits(grid)):
        fields.append(_split_field(rest & np.uint8((1 << width) - 1), width, code_bits(grid)))
        rest = rest >> np.uint8(width)
    return tuple(fields)


class Weights:
    """Packed weights as a kernel sees them: tiles of codes that it restores one at a time.

    Inside an open PrimFunc: `declare()` where the constants stand among the arguments, `allocate()`
    in the body, `unpack(tile)` once per tile, then `load(offset, lanes)` for vectors of codes.
    """

    def __init__(
        self, codes: NDArray[Any], grid: Grid, *, in_registers: bool = False, lift: bool = True
    ) -> None:
        """`codes`: shape `[tiles, length]`, each tile in the order in which the kernel reads it.

        `in_registers`: no scratch; codes are read by `load_unit`, as they are unless `lift`.
        `length` must then be a multiple of `unpacked_at_once`; ValueError otherwise.
        """
        if in_registers and codes.shape[1] % unpacked_at_once(grid):
            raise ValueError(f"{codes.shape[1]} codes per tile do not fill whole vectors")
        self.grid = grid
        self._lifted = in_registers and lift and lifted(grid) > 0
        self.constants = pack(codes, grid, in_registers=self._lifted)
        self.length = codes.shape[1] + -codes.shape[1] % MULTIPLE
        self._direct = not is_narrow(grid)
        self._in_registers = in_registers and not self._direct
        self._fields: list[Any] = []
        self._scratch: Any = None
        self._tile: Any = None

    @property
    def scratch_bytes(self) -> int:
        return 0 if self._direct or self._in_registers else self.length

    def declare(self, prefix: str = "weights") -> None:
        from tvm.script.ir_builder import tirx as T

        self._fields = [
            T.arg(f"{prefix}{i}", T.buffer(array.shape, str(array.dtype)))
            for i, array in enumerate(self.constants)
        ]

    def allocate(self) -> None:
        from tvm.script.ir_builder import tirx as T

        if self.scratch_bytes:
            self._scratch = T.alloc_buffer((self.length,), byte_type(self.grid), scope="global")

    def load(self, offset: Any, lanes: int) -> Any:
        """`lanes` consecutive codes of the current tile from `offset`, as a `byte_type` vector."""
        from tvm.script.ir_builder import tirx as T

        index = T.ramp(offset, 1, lanes) if lanes > 1 else offset
        if self._direct:
            return self._fields[0][self._tile, index]
        return self._scratch[index]

    def codes(self) -> tuple[Any, Any]:
        """The buffer of bytes that holds the current tile's codes, and where its first one is."""
        if self._direct:
            return self._fields[0], self._tile * self.length
        return self._scratch, 0

    @property
    def lines(self) -> int:
        """Cache lines that a packed tile fills."""
        return sum(-(-array.shape[1] // LINE) for array in self.constants)

    def prefetch(
        self,
        part: Any,
        parts: int,
        *,
        lines: int | None = None,
        piece: tuple[int, int] = (0, 1),
    ) -> None:
        """Ask for a share of what lies behind the current tile, of its length unless `lines` are
        given: all of it over `parts` calls. Of a share that is asked for in pieces, number and
        count.

        That is the next tile, or behind the last one what the chain's next kernel begins with: a
        network's constants lie in the order of its steps (`passes/chain.py`). They come from a
        shared cache or from memory, since the last call's have been evicted; the processor's own
        prefetchers stop at every page of 4 KiB. Behind the last constant nothing is read: a
        prefetch never faults.
        """
        from tvm.script.ir_builder import tirx as T

        for buffer, array in zip(self._fields, self.constants, strict=True):
            count = lines or -(-array.shape[1] // LINE)
            each, (number, pieces) = -(-count // parts), piece
            for more in range(each * number // pieces, each * (number + 1) // pieces):
                line = T.min(T.floordiv(part * count, parts) + more, count - 1)
                prefetch_line(buffer[self._tile + 1, line * LINE])

    def prefetch_units(self, unit: Any, units: int) -> None:
        """Ask for `units` units of the current tile, from number `unit` on: see `load_unit`."""
        for buffer, width in zip(self._fields, field_widths(code_bits(self.grid)), strict=True):
            size = unpacked_at_once(self.grid) * width // 8
            for first in range(0, units * size, LINE):
                prefetch_line(buffer[self._tile, unit * size + first])

    def unpack(self, tile: Any) -> None:
        """Restore `tile` into scratch, if there is any."""
        from tvm.script.ir_builder import tirx as T

        self._tile = tile
        if not self.scratch_bytes:
            return
        for block in _blocks(self.length, code_bits(self.grid)):
            with T.serial(0, block.count) as i:
                for run in range(block.runs):
                    start = block.start + (i * block.runs + run) * block.lanes
                    index = T.ramp(start, 1, block.lanes)
                    codes = self._restore(block, i, run, 0, block.lanes)
                    T.buffer_store(self._scratch, codes, [index])

    def load_unit(self, unit: Any, code: int, lanes: int) -> Any:
        """`lanes` codes from the `code`-th of unit `unit`, in registers, lifted where so made.

        A unit is `unpacked_at_once` codes of the current tile; all `lanes` must lie in one run of
        `VECTOR_BYTES` codes.
        """
        from tvm.script.ir_builder import tirx as T

        bits = code_bits(self.grid)
        runs = 8 // min(field_widths(bits))
        run, first = divmod(code, VECTOR_BYTES)
        if not self._lifted:
            block = _Block(0, VECTOR_BYTES, runs, 0)
            return self._restore(block, unit, run, first, lanes)
        value = self._fields[0][self._tile, T.ramp(unit * VECTOR_BYTES + first, 1, lanes)]
        value = T.shift_left(value, T.broadcast(T.uint8((runs - 1 - run) * bits), lanes))
        value = T.bitwise_and(value, T.broadcast(T.uint8(256 - (256 >> bits)), lanes))
        if self.grid.bipolar:
            value = T.bitwise_or(value, T.broadcast(T.uint8(1 << lifted(self.grid)), lanes))
        return T.reinterpret(f"int8x{lanes}", value)

    def _restore(self, block: _Block, i: Any, run: int, first: int, lanes: int) -> Any:
        """`lanes` codes, from the `first`, of vector `run` of the `i`-th of these blocks."""
        from tvm.script.ir_builder import tirx as T

        def splat(value: int) -> Any:
            return T.broadcast(T.uint8(value % 256), lanes)

        total: Any = None
        below = 0
        for buffer, width in zip(self._fields, field_widths(code_bits(self.grid)), strict=True):
            per_byte = 8 // width
            vector = (i * (block.runs // per_byte) + run // per_byte) * block.lanes
            at = block.start // per_byte + vector + first
            value = buffer[self._tile, T.ramp(at, 1, lanes)]
            value = T.shift_right(value, splat(run % per_byte * width))
            value = T.shift_left(T.bitwise_and(value, splat((1 << width) - 1)), splat(below))
            total = value if total is None else T.bitwise_or(total, value)
            below += width
        if self.grid.bipolar:
            total = total + total + splat(-1)
        elif self.grid.signed:
            total = total + splat(-(1 << (self.grid.bits - 1)))
        return T.reinterpret(f"{byte_type(self.grid)}x{lanes}", total)
