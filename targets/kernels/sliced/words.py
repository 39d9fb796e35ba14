"""Stores words of bits, a pixel's 32 output channels, into the layouts of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpqdeploy.targets.layout import WORD, stored_channels

if TYPE_CHECKING:  # the registry's kernels must not load TVM
    from mpqdeploy.targets.kernels.epilogue.writers import Writer

LAYOUTS = frozenset({"bits", "bytes"})


@dataclass(frozen=True)
class WordWriter:
    """Of a tensor whose grid has one bit, in one of `LAYOUTS`."""

    writer: Writer

    def store(self, word: Any, n: Any, y: Any, x: Any, tile: Any, channels: int) -> None:
        """The `channels` lower bits of `word`, which are the channels from 32 * `tile` on."""
        from tvm.script.ir_builder import tirx as T

        top, left, _, _ = self.writer.buffer.layout.padding
        pixel = [n, y + top, x + left]
        if self.writer.buffer.layout.kind == "bits":
            used = T.uint32((1 << channels) - 1)
            T.buffer_store(self.writer.arg, T.bitwise_and(word, used), [*pixel, 0, tile])
            return
        count = stored_channels(channels)
        stored = T.Shuffle([_bytes(word, self._worth)], list(range(count)))
        T.buffer_store(self.writer.arg, stored, [*pixel, T.ramp(tile * WORD, 1, count)])

    @property
    def _worth(self) -> int:
        """What is stored for a 1: see `storage_offset`."""
        return 2 if self.writer.grid.bipolar else 1


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
