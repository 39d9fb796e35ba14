"""What dot-product kernels share: the order of their weights, and a group of 4 input channels.

Activations are stored bytes (code - offset, border = stored zero), weights signed bytes. The exact
accumulator is sum(stored * w) - stored_zero * sum(w), so it starts at that per-channel constant and
padded taps need no special case.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Tensors
from mpqdeploy.targets.kernels.geometry import (
    Dense,
    cannot_overflow,
    dense_operand,
    largest_stored,
)
from mpqdeploy.targets.kernels.packing import Weights, is_narrow, unpacked_at_once
from mpqdeploy.targets.kernels.register_tiles import Chances, Level, channel_vectors
from mpqdeploy.targets.program import Conv, Grid, Step

GROUP = 4  # input channels that one step multiplies and adds
MOST_GROUPS = 8  # groups of one step: what one vector and 1-bit weights need

Load = Callable[[int, int], Any]
Read = Callable[[tuple[Any, Any, Any], Any], list[Any]]  # (n, row, column), group -> indices


class Micro(Protocol):
    """One way to multiply a group of 4 activations with a vector of output channels."""

    name: str
    isa: Isa
    registers: int  # of the machine
    accumulators: int  # most, so that operands have room beside them
    unpacks: bool  # whether schedules that restore narrow weights in registers are worth a try

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Weights `[..., lanes, 4]` as `[..., lanes * 4]`, in the order `multiply` reads."""

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        """acc (int32 x lanes) + dot products of 4 activations and the weights of each lane.

        `word`: 4 stored bytes as an int32; `load(start, count)`: int8 weights in `order`'s order.
        """


def dot_operand(step: Step, tensors: Tensors) -> Conv | None:
    """The step's convolution where it is a dense one of stored bytes and signed bytes, whose int32
    sums cannot overflow."""
    found = dense_operand(step, tensors)
    if found is None:
        return None
    conv, _, grid = found
    fits = conv.weight_grid.low >= -128 and conv.weight_grid.high <= 127
    return conv if fits and cannot_overflow(conv.weights, largest_stored(grid)) else None


def order_weights(
    weights: NDArray[np.int32], vectors: int, micro: Micro, parts: int = 1
) -> NDArray[Any]:
    """`[O, KH, KW, I]` as `[tiles * parts, codes of a part]`, zero beyond O and I.

    A part's codes are ordered kernel row, kernel column, group of 4 input channels, vector.
    """
    out, height, width, inputs = weights.shape
    lanes = micro.isa.lanes
    tiles = channel_vectors(out, lanes) // vectors
    groups = -(-inputs // GROUP)
    padded = np.zeros((tiles * vectors * lanes, height, width, groups * GROUP), np.int32)
    padded[:out, :, :, :inputs] = weights
    split = padded.reshape(tiles, vectors, lanes, height, width, parts, groups // parts, GROUP)
    ordered = micro.order(split.transpose(0, 5, 3, 4, 6, 1, 2, 7))
    return ordered.reshape(tiles * parts, -1)


def start_values(weights: NDArray[np.int32], zero: int, lanes: int) -> NDArray[np.int32]:
    """What the accumulators start at, `[vectors * lanes]`: -stored_zero * sum of weights."""
    channels = channel_vectors(weights.shape[0], lanes) * lanes
    start = np.zeros(channels, np.int32)
    start[: weights.shape[0]] = -zero * weights.reshape(weights.shape[0], -1).sum(axis=1)
    return start


def unpack_step(
    geometry: Dense, grid: Grid, lanes: int, vectors: int, parts: int = 1
) -> int | None:
    """Groups of one step whose weights fill whole packed vectors; None where none do, or where such
    steps do not divide a part of the input channels.

    Weights of such a step can be restored in registers: each vector is loaded once per step.
    """
    if not is_narrow(grid):
        return None
    codes = vectors * lanes * GROUP
    step = lcm(codes, unpacked_at_once(grid)) // codes
    groups = -(-geometry.in_channels // GROUP)
    return step if step <= MOST_GROUPS and groups % (parts * step) == 0 else None


class DotInner:
    """The arithmetic of a `RegisterNest`: `Micro` on steps of one or several groups of 4 channels.

    `step`: groups of one step, a divisor of all groups; where set, weights are restored in
    registers (see `unpack_step`), else read from where `Weights` unpacks them. `parts` divides the
    steps of a tap. `blocks`: of pixels, that a part's weights serve. `at_hand`: codes of a tile of
    output channels, where `weights` are those of all tiles, ready from the beginning.
    """

    apart = 0

    def __init__(
        self,
        geometry: Dense,
        micro: Micro,
        weights: Weights,
        vectors: int,
        step: int | None = None,
        *,
        parts: int = 1,
        blocks: int = 1,
        at_hand: int = 0,
    ) -> None:
        self.geometry = geometry
        self._blocks = blocks
        self._micro = micro
        self._weights = weights
        self._vectors = vectors
        self._in_registers = step is not None
        self._step = step or 1
        self.parts = parts
        self.groups = -(-geometry.in_channels // GROUP) // self._step // parts
        self._source: Any = None
        self._at_hand = at_hand
        self._first: Any = 0  # of the codes: where the current tile's begin
        self._place: Read = lambda pixel, group: []
        self._start: Any = None

    def bind(self, source: Any, place: Read, start: Any) -> None:
        """`source` is indexed as `place` says; `start`: the buffer of `start_values`."""
        self._source, self._place, self._start = source, place, start

    def allocate(self) -> None:
        self._weights.allocate()
        if self._at_hand:
            self._weights.unpack(0)

    def begin(self, part: Any) -> None:
        if self._at_hand:
            self._first = part * self._at_hand
        else:
            self._weights.unpack(part)

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return self._start[T.ramp(channel, 1, self._micro.isa.lanes)]

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        return [self._word(place, group * self._step + part) for part in range(self._step)]

    def _word(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        """The 4 activations of a group as an int32."""
        from tvm.script.ir_builder import tirx as T

        word = T.reinterpret("int32", self._source[tuple(self._place(place, group))])
        groups, rest = divmod(self.geometry.in_channels, GROUP)
        if not (self._weights.grid.bipolar and rest):
            return word
        # Channels past C are undefined; weights of 0 there drop them, but bipolar ones are never 0.
        return T.bitwise_and(word, T.Select(group == groups, (1 << 8 * rest) - 1, -1))

    def ahead(self, level: Level, number: Any) -> None:
        """Spreads the next part's weights over this one. A single block reads as fast as memory
        delivers what comes next, and asking for what comes later would slow that down (75 instead
        of 61 us for 512 to 1000 channels of one pixel [o])."""
        if self._blocks == 1 or self._at_hand:
            return
        chances = Chances(self._blocks, self.geometry.taps, self.groups)
        if level == chances.level(self._weights.lines):
            self._weights.prefetch(number, chances.count(level))

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        for part, word in enumerate(activations):
            load = self._loader(position, part * self._vectors + vector)
            acc = self._micro.multiply(acc, word, load)
        return acc

    def _loader(self, position: Any, number: int) -> Load:
        """Reads the `number`-th vector of weights of a step."""
        codes = self._micro.isa.lanes * GROUP
        per_step = self._step * self._vectors * codes

        def from_tile(start: int, count: int) -> Any:
            at = self._first + position * per_step + number * codes
            return self._weights.load(at + start, count)

        def from_packed(start: int, count: int) -> Any:
            size = unpacked_at_once(self._weights.grid)
            unit, code = divmod(number * codes + start, size)
            return self._weights.load_unit(position * (per_step // size) + unit, code, count)

        return from_packed if self._in_registers else from_tile
