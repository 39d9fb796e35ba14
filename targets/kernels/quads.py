"""Vectors in which channels lie as interleaving leaves them, and as packing orders them again.

Interleaving the bytes of four registers makes a word of four bytes per channel. It works within
quarters of 128 bits: of 64 channels, vector k then holds channels 16 q + 4 k + (0 .. 3) in its
quarter q. Packing four vectors of codes to bytes works within the same quarters and undoes that. So
nothing is permuted on the way, but constants have to lie in this order, beforehand [o].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = 64
VECTORS = 4
QUARTER = 16  # bytes

# Of 64 places, where vectors 0 to 3 find their lanes.
QUADS = np.arange(CHANNELS).reshape(4, VECTORS, 4).transpose(1, 0, 2).reshape(-1)


@dataclass(frozen=True)
class Order:
    """Positions of constants for `channels` stored channels.

    From 0, quads of every whole 64 channels; then the other channels as they are; then, if those
    are 32 at least, quads of the first 32 of them for two pixels in one register.
    """

    channels: int

    @property
    def whole(self) -> int:
        """Channels in chunks of 64."""
        return self.channels - self.channels % CHANNELS

    @property
    def paired(self) -> int:
        """Channels that are computed for two pixels at once: 32 or none."""
        half = CHANNELS // 2
        return half if self.channels - self.whole >= half else 0

    @property
    def pair(self) -> int:
        """Position of what two pixels have in common."""
        return self.channels

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """The channel at every position."""
        chunks = (np.arange(0, self.whole, CHANNELS)[:, None] + QUADS).reshape(-1)
        rest = np.arange(self.whole, self.channels)
        pairs = [self.whole + QUADS % self.paired] if self.paired else []
        return np.concatenate([chunks, rest, *pairs])


def interleaved(rows: Sequence[Any]) -> list[Any]:
    """Up to four uint8 x 64 as four vectors of words: byte r of a channel's word is row r's, and
    past the last row any."""
    from tvm.script.ir_builder import tirx as T

    first, second, third, fourth = [*rows, *[rows[-1]] * (VECTORS - len(rows))]
    words = []
    for high in (0, 1):
        pairs = [_unpacked(a, b, high, 1) for a, b in ((first, second), (third, fourth))]
        words += [T.bind(_unpacked(pairs[0], pairs[1], part, 2)) for part in (0, 1)]
    return words


def _unpacked(a: Any, b: Any, high: int, size: int) -> Any:
    """The lower or upper halves of all quarters, elements of `size` bytes of a and b in turn."""
    from tvm.script.ir_builder import tirx as T

    count, quarter = CHANNELS // size, QUARTER // size
    kind = f"uint{8 * size}x{count}"
    places = [
        start + high * quarter // 2 + i + other * count
        for start in range(0, count, quarter)
        for i in range(quarter // 2)
        for other in (0, 1)
    ]
    mixed = T.Shuffle([T.reinterpret(kind, a), T.reinterpret(kind, b)], places)
    return T.bind(T.reinterpret(f"uint8x{CHANNELS}", mixed))
