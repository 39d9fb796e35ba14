"""`Tables`: the sums of all sets of a group's channels, by sums of halves.

An entry's number has 4 bits, one for each of the group's last 4 channels; those before are in every
set. Its low two bits choose one of 4 sums of the first channels, its high two one of 4 sums of the
others. So 16 sums of each half are made for every 4 groups, 16 groups at a time, and an entry is
picked from both and added: for 64 channels 13 picks and 12 other operations, where picking every
channel for every entry takes 20 and 32 [o].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.permute.micro import (
    GROUPS,
    INDEX,
    NUMBERS,
    SETS,
    TABLES,
    Bytes,
    Micro,
    constant,
)
from mpqdeploy.targets.layout import stored_channels

HALF = INDEX // 2  # bits of a set's number that choose a sum of one half
SOURCES = (64, 32, 16)  # bytes that a vector is picked from: what a pixel has, of these


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a pixel: of every `group` neighbouring ones of its `channels`.

    `unit`: groups that are looked up if one of them has channels, 1 or `GROUPS`.
    `term`: of a channel's values, what it adds to every entry, by the bit that stands for it.
    """

    micro: Micro
    channels: int
    group: int
    unit: int
    term: Callable[[Any, int], Any]

    def build(self, pixel: Bytes, target: Bytes, left: Bytes | None = None) -> None:
        """Emits stores of the tables of the activations `pixel`, of the last vector of them to
        `left` where that is another place. What such a vector has behind the last table is of no
        use, and overwritten by the next pixel's where these follow without a gap."""
        from tvm.script.ir_builder import tirx as T

        stored = stored_channels(self.channels)
        count = next(size for size in SOURCES if size <= stored)
        vectors = max(1, count // (self.group * GROUPS))  # that a source has all channels of
        each = vectors * GROUPS * self.group
        whole = max(0, -(-(self.channels - count) // each))
        with T.serial(0, whole) as number:
            halves = self._halves(_source(pixel, number * each, count), 0, each)
            for vector in range(vectors):
                self._store(halves, vector, target.behind((number * vectors + vector) * TABLES))
        # The rest, from the last bytes of the pixel where it would read beyond it.
        start, rest = whole * each, self.channels - whole * each
        first = min(start, stored - count)
        halves = self._halves(_source(pixel, first, count), start - first, rest)
        behind = -(-rest // (self.group * GROUPS))
        for vector in range(behind):
            place = target.behind((whole * vectors + vector) * TABLES)
            self._store(halves, vector, left if left and vector == behind - 1 else place)

    def _halves(self, source: Any, first: int, present: int) -> tuple[Any, Any]:
        """The sums of both halves of up to 16 groups, from the `first` byte of `source` on, by
        group and by number; channels from the `present`-th on are none, and cleared where they are
        looked up."""
        from tvm.script.ir_builder import tirx as T

        sums: list[Any] = [None, None]
        always = self.group - INDEX  # channels in every set
        read = -(-present // (self.group * self.unit)) * self.group * self.unit
        for i in range(self.group):
            bit = i - always
            channel = NUMBERS // (1 << HALF) * self.group + i
            value = self.micro.pick(source, constant(channel + first))
            missing = (channel >= present) & (channel < read)
            if missing.any():
                value = T.bitwise_and(value, constant(255 * ~missing))
            value = value if bit < 0 else self.term(value, bit % HALF)
            half = max(bit, 0) // HALF
            sums[half] = value if sums[half] is None else sums[half] + value
        return T.bind(sums[0]), T.bind(sums[1])

    def _store(self, halves: tuple[Any, Any], vector: int, target: Bytes) -> None:
        """The tables of the `vector`-th four of these groups."""
        from tvm.script.ir_builder import tirx as T

        low, high = halves
        group = (vector * GROUPS + NUMBERS // SETS) * (1 << HALF)
        entries = self.micro.pick(low, constant(group + NUMBERS % (1 << HALF)))
        entries = entries + self.micro.pick(high, constant(group + NUMBERS % SETS // (1 << HALF)))
        T.buffer_store(target.buffer, entries, [T.ramp(target.first, 1, TABLES)])


def _source(pixel: Bytes, first: Any, count: int) -> Any:
    """`count` bytes of a pixel, repeated."""
    from tvm.script.ir_builder import tirx as T

    run = pixel.behind(first).run(count)
    repeats = TABLES // count
    return T.bind(T.Shuffle([run] * repeats, list(range(count)) * repeats))
