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
from mpqdeploy.targets.kernels.epilogue.bits import reaches, store_bits
from mpqdeploy.targets.kernels.epilogue.leading import Way, beneath, leads
from mpqdeploy.targets.kernels.epilogue.staircase import BYTE_BITS, BYTES
from mpqdeploy.targets.kernels.epilogue.values import Evaluation
from mpqdeploy.targets.kernels.epilogue.vectors import Place, byte, integer
from mpqdeploy.targets.kernels.epilogue.writers import Writer
from mpqdeploy.targets.layout import Layout, storage_offset, stored_channels
from mpqdeploy.targets.program import Expr, Grid, Quant, Tensor

LANES = 16
AT_ONCE = BYTES // LANES
Follows = Way | int | None
NEAREST = 4  # cvtps2dq's operand for the current rounding mode, which is to nearest even


def packs(value: Expr, tensor: Tensor, layout: Layout, isa: Isa, lanes: int) -> bool:
    """Whether `value` can be packed into this layout: rounded to nearest, into bytes or bits."""
    if isa is not Isa.VNNI or lanes != LANES or stored_channels(tensor.shape[3]) < LANES:
        return False
    if not isinstance(value, Quant) or value.grid != tensor.grid:
        return False
    if layout.kind == "bits":  # those past the last channel are 0, which packing does not see to
        return tensor.shape[3] % LANES == 0 and _packable(_source(value, layout)[0])
    return layout.kind == "bytes" and _packable(value)


def _packable(value: Quant) -> bool:
    fits = value.grid.bits <= BYTE_BITS and not value.grid.bipolar
    return fits and value.rounding == "ROUND"


class Packing:
    """Collects vectors of `value` and stores them four at a time; `flush` stores the rest.

    `writers`: who writes these codes, or others that follow from them, or a bit that says whether
    they reach a threshold.
    """

    def __init__(self, value: Quant) -> None:
        self.writers: list[tuple[Writer, Follows]] = []
        self._value = value
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
        self._store(in_order(together(self._words, grid), grid), self._places)
        self._words, self._places = [], []

    def store_quads(self, evaluations: Sequence[Evaluation], places: Sequence[Place]) -> None:
        """Four vectors at once, in quads: packed, they are 16 codes for each of the places."""
        words = [T.bind(rounded(evaluation.unclipped(self._value))) for evaluation in evaluations]
        self._store(together(words, self._value.grid), places)

    def _store(self, saturated: Any, places: Sequence[Place]) -> None:
        """To every writer, of codes that are within a byte and in order."""
        grid = self._value.grid
        codes = T.bind(_within(saturated, grid, storage_offset(grid)))
        for writer, how in self.writers:
            write(writer, how, codes, places)


def packings(writers: Sequence[Writer], *, tables: bool = False) -> tuple[Packing, ...]:
    """Packings that together serve all of these writers; `tables`: see `leads`."""
    found: dict[Quant, Packing] = {}
    for writer in writers:
        if not isinstance(writer.value, Quant):
            raise ValueError("only codes can be packed")
        value, how = _source(writer.value, writer.buffer.layout, tables)
        found.setdefault(value, Packing(value)).writers.append((writer, how))
    return tuple(found.values())


def write(writer: Writer, how: Follows, codes: Any, places: Sequence[Place]) -> None:
    """What follows from 64 stored codes, 16 for each of the places."""
    written = T.bind(how.emit(codes)) if isinstance(how, Way) else codes
    if writer.buffer.layout.kind == "bits":
        store_bits(writer, written, how if isinstance(how, int) else None, places)
    else:
        _store(writer, written, places)


def _source(value: Quant, layout: Layout, tables: bool = False) -> tuple[Quant, Follows]:
    """The codes that are packed for these in this layout, and how these follow."""
    first = beneath(value)
    how = follows(value, first.grid, layout, tables) if first and _packable(first) else None
    return (first, how) if first and how is not None else (value, None)


def follows(value: Quant, known: Grid, layout: Layout, tables: bool = False) -> Follows:
    """How `value` in this layout follows from the stored codes of the grid `known` at its bottom;
    None where it does not. `tables`: see `leads`."""
    least = reaches(value, known) if layout.kind == "bits" else None
    return leads(value, known, tables=tables) if least is None else least


def _store(writer: Writer, codes: Any, places: Sequence[Place]) -> None:
    stored = stored_channels(writer.tensor.shape[3])
    row = writer.views.row
    for first, count in _runs(places, stored):
        lanes = list(range(first * LANES, (first + count) * LANES))
        part = codes if len(lanes) == BYTES else T.Shuffle([codes], lanes)
        n, y, x = writer.pixel(places[first])
        T.buffer_store(row, part, [n, y, T.ramp(x * stored + places[first].c, 1, len(lanes))])


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


def together(words: Sequence[Any], grid: Grid) -> Any:
    """Up to four int32 x 16 as bytes x 64, saturated: within every quarter of the register lie 4
    codes of each word."""
    words = [*words, *[words[-1]] * (AT_ONCE - len(words))]
    halves = [
        T.call_llvm_pure_intrin("int16x32", "llvm.x86.avx512.packssdw.512", *words[i : i + 2])
        for i in (0, 2)
    ]
    name = "packsswb" if grid.signed else "packuswb"
    codes = T.call_llvm_pure_intrin("int8x64", f"llvm.x86.avx512.{name}.512", *halves)
    return T.reinterpret(_type(grid), codes)


def in_order(codes: Any, grid: Grid) -> Any:
    """All codes of a word next to each other."""
    order = [4 * part + word for word in range(AT_ONCE) for part in range(AT_ONCE)]
    return T.reinterpret(_type(grid), T.Shuffle([T.reinterpret("int32x16", codes)], order))


def _type(grid: Grid) -> str:
    return f"int8x{BYTES}" if grid.signed else f"uint8x{BYTES}"


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
    return codes - byte(offset % 256, BYTES) if offset else codes


def _runs(places: Sequence[Place], stored: int) -> list[tuple[int, int]]:
    """First vector and number of vectors of what lies next to each other: 1, 2 or 4 vectors."""
    runs: list[tuple[int, int]] = []
    for number in range(len(places)):
        if runs:
            first, count = runs[-1]
            # A store of two vectors begins at an even one, as the parts of a register do.
            whole = count == 1 and first % 2 == 0
            if whole and _adjacent(places[first], places[number], 1, stored):
                runs[-1] = (first, 2)
                continue
        runs.append((number, 1))
    if runs == [(0, 2), (2, 2)] and _adjacent(places[0], places[2], 2, stored):
        return [(0, 4)]
    return runs


def _adjacent(one: Place, other: Place, vectors: int, stored: int) -> bool:
    """Whether `other` lies `vectors` vectors behind `one`: in the same pixel, or across pixels of
    `stored` channels in a row."""
    equal = sym.Analyzer().can_prove_equal
    if not (equal(one.n, other.n) and equal(one.y, other.y)):
        return False
    behind = one.x * stored + one.c + vectors * LANES
    return bool(equal(behind, other.x * stored + other.c))
