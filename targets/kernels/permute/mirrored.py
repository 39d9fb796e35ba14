"""`Mirrored`: tables of the sums of 5 signed channels, of which one is always added.

Signs have opposites: with all of them turned, a sum is m times their number less the sum. So one of
two opposite sets is in the table ("mirror consolidation" in T-MAC, Wei et al., 2024), 16 entries
are enough for 5 channels, and the sign that is left is a factor of vpdpbusd, which adds up the
lookups anyway: 320 one-bit products in two instructions of different ports, where `Sets` takes
four lookups, three additions and a vpdpbusd for 1,024 [o].

A byte of an index has the number of a set, and of its table, in the six bits that vpermb reads, and
+1 or -1, or 0 where there is no group, in the two above: as a number, 64 times that [o].

The tables of four groups are a line, and those of a kernel row's pixels follow each other. Groups
that are left, of all pixels of a row, are behind: three of a kernel row's are one lookup, where
those of a pixel are one group, and no load but of these crosses a line: 0.96 of the time with 64
channels on 56 x 56 [o]. Only a row's last lookup may be of fewer than 4 groups. In parts
(`parts_for`), lookups are a pixel's own, and groups without channels have entries of 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.permute.lookups import Lookups, Place
from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    INDEX,
    SETS,
    TABLES,
    Micro,
    group_numbers,
    less_unless_set,
    splat,
)
from mpqdeploy.targets.kernels.register_tiles import Tile, blocks, channel_vectors, divisors
from mpqdeploy.targets.program import Grid

GROUP = INDEX + 1  # input channels of one table
LIFT = 6  # log2 of the factor by which sums are multiplied
PART = 32 << 10  # bytes of what a part uses: a first-level cache has room for other things
SUMS = 8 << 10  # most of them of sums that rest between two parts
MOST_MORE = 1.03  # times the lookups of runs, in parts
CODES = Grid(bits=GROUP, signed=False)  # the number of a set, and above it whether it was turned


def groups_of(channels: int) -> int:
    """Groups of a pixel; the last one may be of fewer channels."""
    return -(-channels // GROUP)


def lookups_of(channels: int) -> int:
    """Of a pixel on its own."""
    return -(-groups_of(channels) // GROUPS)


def table_bytes(channels: int) -> int:
    """Of a pixel's tables."""
    return groups_of(channels) * SETS


def parts_for(geometry: Dense, tile: Tile, lanes: int) -> int:
    """The fewest parts of a pixel's lookups whose tables, of all pixels, and indices a first-level
    cache holds; 1 where sums are too many to rest there too, or a pixel's last groups too few.

    With 512 channels on 7 x 7, tables of 133 KB are read for every tile of output channels: 0.93 of
    the time in 13 parts [o].
    """
    lookups, sums = lookups_of(geometry.in_channels), blocks(geometry, tile) * tile.registers
    of_runs = -(-geometry.kernel[1] * groups_of(geometry.in_channels) // GROUPS)
    if sums * lanes * 4 > SUMS or geometry.kernel[1] * lookups > MOST_MORE * of_runs:
        return 1
    rows = (geometry.out_height - 1) * geometry.stride[0] + geometry.kernel[0]
    columns = (geometry.out_width - 1) * geometry.stride[1] + geometry.kernel[1]
    indices = geometry.taps * tile.vectors
    size = (geometry.batch * rows * columns + indices) * lookups * TABLES
    fitting = (n for n in divisors(lookups, lookups) if size // n + sums * lanes * 4 <= PART)
    return next(fitting, 1)


def order_mirrored(
    weights: NDArray[np.int32], vectors: int, lanes: int, parts: int = 1
) -> NDArray[np.int32]:
    """Signs `[O, KH, KW, I]` as `CODES` `[tiles of `vectors` vectors of output channels * parts,
    codes of a part]`.

    Of a group whose first sign is -1, all are turned. Bit i - 1 of the number of a set says whether
    the group's i-th sign is then +1; missing channels are: their activations are cleared. A
    part's order: kernel row, lookup, vector, output channel, group, lookups of whole fours of a
    pixel's groups first; with several parts, lookups are those of a pixel, and before them is the
    kernel's column.
    """
    out, height, width, inputs = weights.shape
    tiles, groups = channel_vectors(out, lanes) // vectors, groups_of(inputs)
    plus = np.ones((tiles * vectors * lanes, height, width, groups * GROUP), bool)
    plus[:out, ..., :inputs] = weights > 0
    first = plus[..., ::GROUP]
    kept = plus == np.repeat(first, GROUP, axis=-1)
    kept[..., inputs:] = True
    bits = kept.reshape(*plus.shape[:3], groups, GROUP)[..., 1:]
    sets = (bits << np.arange(INDEX)).sum(axis=-1, dtype=np.int32)
    runs = sets + ~first * SETS
    if parts == 1:
        fours = np.split(runs, [groups // GROUPS * GROUPS], axis=-1)
        runs = np.concatenate([part.reshape(*runs.shape[:2], 1, -1) for part in fours], axis=-1)
    missing = ((0, 0),) * 3 + ((0, -runs.shape[-1] % GROUPS),)
    padded = np.pad(runs, missing, constant_values=0 if parts == 1 else SETS - 1)
    split = padded.reshape(tiles, vectors, lanes, *padded.shape[1:3], parts, -1, GROUPS)
    ordered = split.transpose(0, 5, 3, 4, 6, 1, 2, 7)
    return ordered.reshape(tiles * parts, -1).astype(np.int32)


def added_by_mirrors(weights: NDArray[np.int32], largest: int) -> NDArray[np.int32]:
    """What lookups add to the sums of products, `[O]`: `largest`, for every -1 of a group that was
    not turned, and less that, for every +1 of one that was."""
    first = np.repeat(weights[..., ::GROUP], GROUP, axis=-1)[..., : weights.shape[-1]]
    turned = np.where(first > 0, weights < 0, -(weights > 0).astype(np.int32))
    total: NDArray[np.int32] = turned.reshape(len(weights), -1).sum(axis=1, dtype=np.int32)
    return total * np.int32(largest)


class Mirrored(Lookups):
    """Steps of 4 groups of 5 channels; the kernel's rows are its only taps, unless in parts.

    `largest` is 2^k - 1, and bounds a stored activation; the kernel has no dilation across.
    """

    unit = 1  # a group without channels has a factor of 0
    lift = LIFT

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        tile: Tile,
        weights: NDArray[np.int32],
        largest: int,
        parts: int = 1,
    ) -> None:
        (height, width), channels = geometry.kernel, geometry.in_channels
        self.parts = parts
        self.geometry = replace(geometry, kernel=(height, 1), dilation=(geometry.dilation[0], 1))
        fours, left = divmod(groups_of(channels), GROUPS)
        if parts > 1:
            self.geometry, self.unit = geometry, GROUPS
            width, fours, left = 1, lookups_of(channels), 0
        self._run = width * (fours * GROUPS + left)  # groups of a tap
        self.groups = -(-self._run // GROUPS) // parts
        self.apart = -(-width * left // GROUPS)
        self._largest = largest
        codes = order_mirrored(weights, tile.vectors, micro.isa.lanes, parts)
        tables = fours * TABLES, left * SETS
        super().__init__(micro, tile, codes, CODES, channels=channels, group=GROUP, tables=tables)

    def index(self, codes: Any, number: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        size = self.size
        turned = T.bitwise_and(codes, splat(SETS, size))
        sets = T.bitwise_and(codes, splat(SETS - 1, size))
        sets = T.bitwise_or(sets, T.shift_left(turned, splat(7 - INDEX, size)))
        above = group_numbers(size) * splat(SETS, size) + splat(1 << LIFT, size)
        if self._run % GROUPS:  # where there is no group, a factor of 0
            lookup = T.floormod(T.floordiv(number, self.vectors), self.groups)
            present = T.cast(T.min(self._run - lookup * GROUPS, GROUPS), "uint8")
            missing = group_numbers(size) >= T.broadcast(present, size)
            above = T.Select(missing, splat(0, size), above)
        return T.bitwise_or(sets, above)

    def term(self, value: Any, bit: int) -> Any:
        return less_unless_set(value, bit, self._largest)

    def fetch(self, place: Place, group: Any) -> Any:
        if isinstance(group, int):  # of those that are apart
            return self.left(place, group - (self.groups - self.apart))
        return self.tables(place, group)

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        from tvm.script.ir_builder import tirx as T

        indices = self.indices(position * self.vectors + vector)
        signs = T.bitwise_and(indices, splat(256 - (1 << LIFT), self.size))
        found = self.micro.look_up(activations, indices)
        return self.micro.add(acc, found, T.reinterpret(f"int8x{self.size}", signs))
