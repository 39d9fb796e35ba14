"""Codes of several vectors, packed to bytes together (AVX-512).

The conversion of a float vector rounds half to even, and packing four int32 vectors to one of bytes
saturates. So clipping costs nothing on the grid of a byte, and an instruction for four vectors on
any other; a vector on its own takes two instructions to be clipped, and two to be narrowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import sym
from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.epilogue.staircase import BYTES, Staircase, leads
from mpqdeploy.targets.kernels.epilogue.values import Evaluation
from mpqdeploy.targets.kernels.epilogue.vectors import Place, integer
from mpqdeploy.targets.kernels.epilogue.writers import Writer
from mpqdeploy.targets.layout import storage_offset, stored_channels
from mpqdeploy.targets.program import Grid, Quant

LANES = 16
AT_ONCE = BYTES // LANES
NEAREST = 4  # cvtps2dq's operand for the current rounding mode, which is to nearest even


def packs(writer: Writer, isa: Isa, lanes: int) -> bool:
    """Whether codes of this writer can be packed: rounded to nearest, into bytes."""
    value, grid = writer.value, writer.tensor.grid
    if isa is not Isa.VNNI or lanes != LANES or stored_channels(writer.tensor.shape[3]) < LANES:
        return False
    if writer.buffer.layout.kind != "bytes" or not isinstance(value, Quant):
        return False
    return value.rounding == "ROUND" and value.grid == grid and not value.grid.bipolar


class Packing:
    """Collects a writer's vectors and stores them four at a time; `flush` stores the rest.

    `followers`: writers whose codes follow from this one's, each by its staircase.
    """

    def __init__(self, writer: Writer, followers: Sequence[tuple[Writer, Staircase]] = ()) -> None:
        if not isinstance(writer.value, Quant):
            raise ValueError("only codes can be packed")
        self._writer, self._value = writer, writer.value
        self._followers = followers
        self._words: list[Any] = []
        self._places: list[Place] = []

    def add(self, evaluation: Evaluation, place: Place) -> None:
        self._words.append(T.bind(rounded(evaluation.unclipped(self._value))))
        self._places.append(place)
        if len(self._words) == AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self._words:
            return
        grid = self._value.grid
        codes = T.bind(packed(self._words, grid, storage_offset(grid)))
        _store(self._writer, codes, self._places)
        for follower, staircase in self._followers:
            _store(follower, T.bind(staircase.emit(codes)), self._places)
        self._words, self._places = [], []


def packings(writers: Sequence[Writer]) -> dict[Writer, Packing | None]:
    """A packing for each of these writers, None for one whose codes follow from another's."""
    leaders = {writer: _leader(writer, writers) for writer in writers}
    followers: dict[Writer, list[tuple[Writer, Staircase]]] = {writer: [] for writer in writers}
    found: dict[Writer, Packing | None] = {}
    for writer, led in leaders.items():
        # One that is led itself has no packing that could have followers.
        if led is None or leaders[led[0]] is not None:
            found[writer] = Packing(writer, followers[writer])
        else:
            found[writer] = None
            followers[led[0]].append((writer, led[1]))
    return found


def _leader(writer: Writer, writers: Sequence[Writer]) -> tuple[Writer, Staircase] | None:
    """Whose codes this writer's follow from, and how."""
    for first in writers:
        staircase = leads(first.value, writer.value)
        if staircase is not None:
            return first, staircase
    return None


def _store(writer: Writer, codes: Any, places: Sequence[Place]) -> None:
    for first, count in _runs(places):
        lanes = list(range(first * LANES, (first + count) * LANES))
        part = codes if len(lanes) == BYTES else T.Shuffle([codes], lanes)
        index = T.ramp(places[first].c, 1, len(lanes))
        T.buffer_store(writer.arg, part, [*writer.pixel(places[first]), index])


def rounded(value: Any) -> Any:
    """float32 x 16 to int32, half to even; what does not fit becomes the least int32."""
    return T.call_llvm_pure_intrin(
        "int32x16",
        "llvm.x86.avx512.mask.cvtps2dq.512",
        value,
        integer(0, LANES),
        T.int16(-1),
        T.int32(NEAREST),
    )


def packed(words: Sequence[Any], grid: Grid, offset: int) -> Any:
    """Up to four int32 x 16 as uint8 x 64, in order: clipped to `grid`, less `offset`."""
    words = [*words, *[words[-1]] * (AT_ONCE - len(words))]
    halves = [
        T.call_llvm_pure_intrin("int16x32", "llvm.x86.avx512.packssdw.512", *words[i : i + 2])
        for i in (0, 2)
    ]
    name = "packsswb" if grid.signed else "packuswb"
    codes = T.call_llvm_pure_intrin("int8x64", f"llvm.x86.avx512.{name}.512", *halves)
    # Within every quarter of the register lie 4 codes of each word.
    order = [4 * part + word for word in range(AT_ONCE) for part in range(AT_ONCE)]
    ordered = T.Shuffle([T.reinterpret("int32x16", codes)], order)
    return _within(T.reinterpret("int8x64" if grid.signed else "uint8x64", ordered), grid, offset)


def _within(codes: Any, grid: Grid, offset: int) -> Any:
    """What saturation to a byte has left of clipping to `grid`, and the offset."""
    kind, low, high = ("int8", -128, 127) if grid.signed else ("uint8", 0, 255)

    def splat(value: int) -> Any:
        return T.broadcast(T.Cast(kind, value), BYTES)

    if grid.low > low:
        codes = T.max(codes, splat(grid.low))
    if grid.high < high:
        codes = T.min(codes, splat(grid.high))
    codes = T.reinterpret(f"uint8x{BYTES}", codes)
    return codes - T.broadcast(T.uint8(offset % 256), BYTES) if offset else codes


def _runs(places: Sequence[Place]) -> list[tuple[int, int]]:
    """First vector and number of vectors of what lies next to each other: 1, 2 or 4 vectors."""
    runs: list[tuple[int, int]] = []
    for number in range(len(places)):
        if runs:
            first, count = runs[-1]
            # A store of two vectors begins at an even one, as the parts of a register do.
            whole = count == 1 and first % 2 == 0
            if whole and _adjacent(places[first], places[number], 1):
                runs[-1] = (first, 2)
                continue
        runs.append((number, 1))
    if runs == [(0, 2), (2, 2)] and _adjacent(places[0], places[2], 2):
        return [(0, 4)]
    return runs


def _adjacent(one: Place, other: Place, vectors: int) -> bool:
    """Whether `other` lies `vectors` vectors behind `one`, in the same pixel."""
    equal = sym.Analyzer().can_prove_equal
    pairs = ((one.n, other.n), (one.y, other.y), (one.x, other.x))
    return all(equal(a, b) for a, b in pairs) and equal(one.c + vectors * LANES, other.c)
