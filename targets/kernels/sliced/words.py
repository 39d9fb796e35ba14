"""Stores words of bits, a pixel's 32 output channels, into the layouts of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpqdeploy.targets.layout import WORD, stored_channels

if TYPE_CHECKING:  # the registry's kernels must not load TVM
    from mpqdeploy.targets.kernels.epilogue.writers import Writer

LAYOUTS = frozenset({"bits", "bytes", "float"})


@dataclass(frozen=True)
class WordWriter:
    """Of a tensor whose grid has one bit, in one of `LAYOUTS`."""

    writer: Writer

    def store(self, word: Any, n: Any, y: Any, x: Any, tile: Any, channels: int) -> None:
        """The `channels` lower bits of `word`, which are the channels from 32 * `tile` on."""
        from tvm.script.ir_builder import tirx as T

        top, left, _, _ = self.writer.buffer.layout.padding
        pixel = [n, y + top, x + left]
        grid, kind = self.writer.grid, self.writer.buffer.layout.kind
        if kind == "bits":
            used = T.uint32((1 << channels) - 1)
            T.buffer_store(self.writer.arg, T.bitwise_and(word, used), [*pixel, 0, tile])
        elif kind == "bytes":
            count = stored_channels(channels)
            stored = T.Shuffle([_bytes(word, grid.high - grid.low)], list(range(count)))
            T.buffer_store(self.writer.arg, stored, [*pixel, T.ramp(tile * WORD, 1, count)])
        else:
            with T.serial(0, channels) as channel:
                bit = T.bitwise_and(T.shift_right(word, T.cast(channel, "uint32")), T.uint32(1))
                code = T.Select(bit != T.uint32(0), T.float32(grid.high), T.float32(grid.low))
                T.buffer_store(self.writer.arg, code, [n, tile * WORD + channel, y, x])


def _bytes(word: Any, worth: int) -> Any:
    """A byte for each bit of a word: `worth` or 0."""
    from tvm.script.ir_builder import tirx as T

    spread = T.reinterpret(f"uint8x{WORD}", T.broadcast(word, WORD // 4))
    in_order = T.Shuffle([spread], [bit // 8 for bit in range(WORD)])
    ones = T.broadcast(T.uint8(1), WORD)
    places = T.shift_left(ones, T.cast(T.ramp(0, 1, WORD) % 8, f"uint8x{WORD}"))
    zero = T.broadcast(T.uint8(0), WORD)
    given = T.bitwise_and(in_order, places) != zero
    return T.Select(given, T.broadcast(T.uint8(worth), WORD), zero)
