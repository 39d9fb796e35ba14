"""Stores codes of an image's rows: vectors run along the pixels, as NCHW floats lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.epilogue.vectors import Place, integer, ramp
from mpqdeploy.targets.kernels.epilogue.writers import Writer

PIXEL = 4  # bytes of a pixel in a word


def store_row(writer: Writer, codes: Sequence[Any], place: Place) -> None:
    """Stores every channel (up to 4) of `place.lanes` pixels into a bytes or tight layout.

    `codes[c]`: int32 vector over the pixels whose low 8 bits are channel c's stored value.
    """
    n, y, x = writer.pixel(place)
    if writer.buffer.layout.kind == "bytes":
        pixels = T.decl_buffer(writer.arg.shape[:3], "int32", data=writer.arg.data)
        T.buffer_store(pixels, _words(codes, place.lanes), [n, y, ramp(x, place.lanes)])
        return
    channels, row = len(codes), writer.views.row
    if place.lanes % PIXEL:
        for channel, code in enumerate(codes):
            T.buffer_store(row, T.cast(code, "uint8"), [n, y, x * channels + channel])
        return
    run = _without_gaps(_words(codes, place.lanes), place.lanes, channels)
    T.buffer_store(row, run, [n, y, T.ramp(x * channels, 1, place.lanes * channels)])


def _words(codes: Sequence[Any], lanes: int) -> Any:
    """A pixel's channels in the bytes of an int32, from the low one up."""
    word = T.bitwise_and(codes[0], integer(255, lanes))
    for channel, code in enumerate(codes[1:], start=1):
        byte = T.bitwise_and(code, integer(255, lanes))
        word = T.bitwise_or(word, T.shift_left(byte, integer(8 * channel, lanes)))
    return word


def _without_gaps(words: Any, lanes: int, channels: int) -> Any:
    """The first `channels` bytes of every word, one after another."""
    size = PIXEL * lanes
    sources = [PIXEL * pixel + channel for pixel in range(lanes) for channel in range(channels)]
    return T.Shuffle([T.reinterpret(f"uint8x{size}", words)], sources)
