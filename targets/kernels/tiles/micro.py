"""The instructions on tiles, and what stands in for them on other CPUs.

A tile is a register of up to 16 rows of 64 bytes. One instruction adds to a tile of 16 pixels by 16
output channels the dot products of up to 64 bytes of input: 16,384 products, in the time in which
vpdpbusd makes 2,048 (Intel's Architecture Instruction Set Extensions Reference, chapter 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.permission import ARCH_PRCTL, REQUEST, TILE_DATA

ROWS = 16  # of a tile
BYTES = 64  # of a row
OUT = 16  # output channels, int32, of a row of sums
GROUP = 4  # input channels that are multiplied and added to one sum
TILES = 8
SIZE = ROWS * BYTES

REFUSED = "the system does not lend this process tile registers (AMX): compile for another target"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a kernel's tiles: `pixels` rows of `depth` bytes of input; the first `sums` tiles
    accumulate, the next one holds activations, and `weights` more hold weights."""

    pixels: int
    depth: int
    sums: int
    weights: int

    def config(self) -> NDArray[np.uint8]:
        """What ldtilecfg reads: palette 1, bytes per row of every tile, rows of every tile."""
        row = [BYTES] * self.sums + [self.depth] + [BYTES] * self.weights
        rows = [self.pixels] * (self.sums + 1) + [self.depth // GROUP] * self.weights
        found = np.zeros(BYTES, np.uint8)
        found[0] = 1
        found[16 : 16 + 2 * len(row)] = np.array(row, "<u2").view(np.uint8)
        found[48 : 48 + len(rows)] = rows
        return found


@dataclass(frozen=True, eq=False)
class Memory:
    """A buffer as bytes, from byte `offset` on."""

    buffer: Any
    offset: Any

    def at(self, offset: Any) -> Memory:
        return Memory(self.buffer, self.offset + offset)


class Micro(Protocol):
    """Operations on the 8 tiles, by their numbers. `stride`: bytes between two rows in memory."""

    name: str
    isa: Isa
    written: int  # products that are written out at most; loops go round them
    tables: bool  # whether every CPU that has it looks bytes up, too (AVX-512 VBMI)

    def ready(self, config: Any) -> Any:
        """A context in which tiles have the sizes of `config`: `Shape.config`, as a buffer."""

    def load(self, tile: int, memory: Memory, stride: Any) -> None: ...

    def multiply(self, total: int, inputs: int, weights: int) -> None:
        """Add the products of unsigned activations and signed weights."""

    def store(self, tile: int, memory: Memory, stride: Any) -> None: ...


class Amx:
    """Intel's AMX-INT8: tdpbusd."""

    name = "dot_amx"
    isa = Isa.VNNI
    written = 12
    tables = True

    @contextmanager
    def ready(self, config: Any) -> Iterator[None]:
        from tvm.script.ir_builder import tirx as T

        answer = T.call_extern("int64", "syscall", ARCH_PRCTL, REQUEST, TILE_DATA)
        with T.Assert(answer == T.int64(0), REFUSED):
            pass
        _call("llvm.x86.ldtilecfg", T.address_of(config[0]))
        yield
        _call("llvm.x86.tilerelease")

    def load(self, tile: int, memory: Memory, stride: Any) -> None:
        _call("llvm.x86.tileloadd64", _number(tile), _pointer(memory), _long(stride))

    def multiply(self, total: int, inputs: int, weights: int) -> None:
        _call("llvm.x86.tdpbusd", _number(total), _number(inputs), _number(weights))

    def store(self, tile: int, memory: Memory, stride: Any) -> None:
        _call("llvm.x86.tilestored64", _number(tile), _pointer(memory), _long(stride))


def _call(name: str, *arguments: Any) -> None:
    from tvm.script.ir_builder import tirx as T

    T.evaluate(T.call_llvm_intrin("void", name, *arguments))


def _number(tile: int) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.int8(tile)


def _long(stride: Any) -> Any:
    from tvm.script.ir_builder import tirx as T

    return T.cast(stride, "int64")


def _pointer(memory: Memory) -> Any:
    from tvm.script.ir_builder import tirx as T

    # Not `address_of` an element: see `passes/chain.py`.
    return T.handle_add_byte_offset(memory.buffer.data, memory.offset)


class PlainTiles:
    """Any CPU, an element at a time: the same loops, weights and addresses, to be tested
    everywhere. Never fast, and so never offered by the registry."""

    name = "dot_tiles"
    tables = False

    def __init__(self, isa: Isa, *, written: int = 1) -> None:
        self.isa = isa
        self.written = written
        self._config: Any = None
        self._tiles: Any = None

    @contextmanager
    def ready(self, config: Any) -> Iterator[None]:
        from tvm.script.ir_builder import tirx as T

        self._config = config
        self._tiles = T.alloc_buffer((TILES, SIZE), "uint8", scope="global")
        yield

    def load(self, tile: int, memory: Memory, stride: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        rows, size = self._extent(tile)
        source = _bytes(memory.buffer)
        with T.serial(0, rows) as row, T.serial(0, size) as i:
            value = source[memory.offset + row * stride + i]
            T.buffer_store(self._tiles, value, [tile, row * BYTES + i])

    def multiply(self, total: int, inputs: int, weights: int) -> None:
        from tvm.script.ir_builder import tirx as T

        (rows, size), data = self._extent(inputs), self._tiles.data
        shape = (TILES, SIZE)
        signed = T.decl_buffer(shape, "int8", data=data)
        sums = T.decl_buffer((TILES, ROWS * OUT), "int32", data=data)
        with T.serial(0, rows) as row, T.serial(0, OUT) as out, T.serial(0, size) as i:
            code = T.cast(self._tiles[inputs, row * BYTES + i], "int32")
            at = i // GROUP * BYTES + out * GROUP + i % GROUP
            product = code * T.cast(signed[weights, at], "int32")
            place = [total, row * OUT + out]
            T.buffer_store(sums, sums[tuple(place)] + product, place)

    def store(self, tile: int, memory: Memory, stride: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        rows, size = self._extent(tile)
        with T.serial(0, rows) as row, T.serial(0, size) as i:
            value = self._tiles[tile, row * BYTES + i]
            T.buffer_store(_bytes(memory.buffer), value, [memory.offset + row * stride + i])

    def _extent(self, tile: int) -> tuple[Any, Any]:
        """Rows of a tile, and their bytes: read as an instruction would, not known to LLVM, which
        would unroll all of this."""
        from tvm.script.ir_builder import tirx as T

        rows, size = self._config[48 + tile], self._config[16 + 2 * tile]
        return T.bind(T.cast(rows, "int32")), T.bind(T.cast(size, "int32"))


def _bytes(buffer: Any) -> Any:
    """A buffer's bytes, one after the other."""
    from tvm.script.ir_builder import tirx as T

    size = int(np.dtype(str(buffer.dtype)).itemsize)
    for extent in buffer.shape:
        size *= int(extent)
    return T.decl_buffer((size,), "uint8", data=buffer.data)
