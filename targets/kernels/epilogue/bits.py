"""Packed codes as bits: 32 channels of a plane are one comparison of bytes.

One bit that follows from a code that is packed anyway, as the sign of a residual stream does from
the stream, is the comparison with a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import sym
from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.epilogue.leading import of_codes
from mpqdeploy.targets.kernels.epilogue.vectors import Place, byte
from mpqdeploy.targets.kernels.epilogue.writers import Writer
from mpqdeploy.targets.layout import CHANNEL_BLOCK, WORD, planes, storage_offset, stored_channels
from mpqdeploy.targets.program import Grid, Quant


def reaches(value: Quant, known: Grid) -> int | None:
    """The least stored code of the grid `known` from which on `value`, of one bit and with such
    codes at its `bottom`, is its grid's upper code; None where channels differ or no threshold is
    exactly it."""
    if planes(value.grid) != 1:
        return None
    codes, found = of_codes(value, value, known)
    by_channel = found > value.grid.low
    bits = by_channel[:, 0]
    if (by_channel != bits[:, None]).any() or (bits[:-1] & ~bits[1:]).any() or not bits[-1]:
        return None
    return int(codes[bits.argmax()]) - storage_offset(known)


def store_bits(writer: Writer, codes: Any, threshold: int | None, places: Sequence[Place]) -> None:
    """To a bits layout: 64 stored codes, 16 for each of the places, of which there may be fewer
    than four. With a threshold, the bit that it makes of them."""
    for first in range(0, len(places), 2):
        start = first * CHANNEL_BLOCK
        half = T.bind(T.Shuffle([codes], list(range(start, start + WORD))))
        for plane in range(planes(writer.grid)):
            _store(writer, _mask(half, plane, threshold), plane, places[first : first + 2])


def _mask(codes: Any, plane: int, threshold: int | None) -> Any:
    """Of uint8 x 32, as uint32."""
    if threshold is None:
        bits = T.bitwise_and(codes, byte(1 << plane, WORD)) != byte(0, WORD)
    else:
        bits = codes >= byte(threshold, WORD)
    ones = T.Select(bits, T.broadcast(T.int8(-1), WORD), T.broadcast(T.int8(0), WORD))
    return T.cast(T.call_llvm_pure_intrin("int32", "llvm.x86.avx2.pmovmskb", ones), "uint32")


def _store(writer: Writer, mask: Any, plane: int, places: Sequence[Place]) -> None:
    """A word of bits: of two vectors of a pixel together, or of each on its own."""
    half = CHANNEL_BLOCK
    parts = writer.views.parts[half]
    first = places[0]
    if len(places) == 2 and _neighbours(first, places[1]):
        pair = T.reinterpret(f"uint{half}x2", mask)
        at = [*writer.pixel(first), plane, T.ramp(first.c // half, 1, 2)]
        T.buffer_store(parts, pair, at)
        return
    mask = T.bind(mask)
    for number, place in enumerate(places):
        bits = T.bitwise_and(T.shift_right(mask, T.uint32(number * half)), T.uint32(0xFFFF))
        pixel = [*writer.pixel(place), plane]
        if stored_channels(writer.tensor.shape[3]) <= half:  # the word's other half is 0
            T.buffer_store(writer.arg, bits, [*pixel, 0])
        else:
            T.buffer_store(parts, T.cast(bits, f"uint{half}"), [*pixel, place.c // half])


def _neighbours(one: Place, other: Place) -> bool:
    """Whether `other` has the next channels of the same pixel."""
    equal = sym.Analyzer().can_prove_equal
    same = all(equal(a, b) for a, b in ((one.n, other.n), (one.y, other.y), (one.x, other.x)))
    return same and bool(equal(one.c + CHANNEL_BLOCK, other.c))
