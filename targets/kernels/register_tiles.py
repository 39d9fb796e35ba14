"""Tiles of accumulators in registers: those that fit an output, and how often a nest asks ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.layout import stored_channels

AT_HAND = 16 << 10  # bytes of weights that stay in the first-level cache beside everything else
BURST = 16  # lines that may be prefetched at once: with more, what is needed now has to wait [o]

Level = Literal["block", "tap", "step"]


@dataclass(frozen=True)
class Chances:
    """How often `Inner.ahead` is called for a part: for `blocks` of `taps`, each of `groups`."""

    blocks: int
    taps: int
    groups: int

    def count(self, level: Level) -> int:
        within = {"block": 1, "tap": self.taps, "step": self.taps * self.groups}
        return self.blocks * within[level]

    def level(self, lines: int) -> Level:
        """Where to ask for `lines`: before blocks, if that makes few at once, else before taps or
        steps."""
        levels: tuple[Level, ...] = ("block", "tap")
        return next((level for level in levels if lines <= BURST * self.count(level)), "step")


@dataclass(frozen=True)
class Tile:
    """Accumulators held in registers: rows x columns of pixels, by vectors of output channels."""

    rows: int
    columns: int
    vectors: int

    @property
    def registers(self) -> int:
        return self.rows * self.columns * self.vectors

    @property
    def loads(self) -> float:
        """Loads per product: a step reads the weights of all vectors, and every pixel once."""
        return (self.rows * self.columns + self.vectors) / self.registers


def channel_vectors(channels: int, lanes: int) -> int:
    """Vectors that cover the channels as they are stored: the epilogue wants all of those."""
    return -(-stored_channels(channels) // lanes)


def divisors(number: int, limit: int) -> list[int]:
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def pixels_at_once(vectors: int, accumulators: int, registers: int | None = None) -> int:
    """Pixels whose sums, of `vectors` vectors each, fit `accumulators`.

    `registers`: of the machine, where a step's weights, `vectors` of them, and one pixel's
    activations have to stay in registers as well. With one register too few, LLVM keeps a sum on
    the stack, whose vectors are not aligned: 1.04 to 1.3 of the time, and thrice where that sum
    happens to lie on two pages [o].
    """
    free = accumulators if registers is None else min(accumulators, registers - 1 - vectors)
    return free // vectors


def tiles_for(
    geometry: Dense, lanes: int, accumulators: int, registers: int | None = None
) -> Sequence[Tile]:
    """At most four tiles for this output that fill the accumulators (`pixels_at_once`), likely
    best first."""
    vectors = channel_vectors(geometry.out_channels, lanes)
    found: list[Tile] = []
    for wide in (2, 4, 1, 3):
        pixels = pixels_at_once(wide, accumulators, registers)
        if vectors % wide or not pixels:
            continue
        columns = _columns(geometry.out_width, pixels)
        rows = max(1, min(geometry.out_height, pixels // columns))
        found.append(Tile(rows, columns, wide))
    if geometry.out_height * geometry.out_width == 1:
        found = [Tile(1, 1, wide) for wide in reversed(divisors(vectors, accumulators))]
    return found[:4]


def blocks(geometry: Dense, tile: Tile) -> int:
    """Blocks of pixels that a tile of output channels is computed in."""
    rows, columns = -(-geometry.out_height // tile.rows), -(-geometry.out_width // tile.columns)
    return geometry.batch * rows * columns


def _columns(width: int, pixels: int) -> int:
    """The tile width up to `pixels` that wastes least: fewest tiles, then the narrowest."""
    tiles = -(-width // pixels)
    return -(-width // tiles)
