"""Places of the buffers between steps in one block of memory, which they share over time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the longest vector


def aligned(size: int) -> int:
    """`size`, rounded up to whole `ALIGNMENT`s."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """A buffer's bytes, and the first and the last step that touch it, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Offsets in bytes by the keys of the buffers, and the size of the whole."""

    offsets: Mapping[Hashable, int]
    size: int


def place(buffers: Mapping[Hashable, Lifetime]) -> Arena:
    """Lowest free place for every buffer, the largest first [o].

    Buffers that are alive in one step never overlap. Every offset is a multiple of `ALIGNMENT`.
    """
    offsets: dict[Hashable, int] = {}
    for name in sorted(buffers, key=lambda name: -buffers[name].size):
        taken = sorted(
            (offsets[other], offsets[other] + buffers[other].size)
            for other in offsets
            if buffers[other].meets(buffers[name])
        )
        offset = 0
        for start, end in taken:
            if offset + buffers[name].size <= start:
                break
            offset = max(offset, aligned(end))
        offsets[name] = offset
    size = max((offsets[name] + buffers[name].size for name in buffers), default=0)
    return Arena(offsets=offsets, size=size)
