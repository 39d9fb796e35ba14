"""What dot-product kernels share: the order of their weights, and a group of 4 input channels.

Activations are stored bytes (code - offset, border = stored zero), weights signed bytes. The exact
accumulator is sum(stored * w) - stored_zero * sum(w), so it starts at that per-channel constant and
padded taps need no special case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import channel_vectors
from mpqdeploy.targets.kernels.packing import Weights

GROUP = 4  # input channels that one step multiplies and adds

Load = Callable[[int, int], Any]


class Micro(Protocol):
    """One way to multiply a group of 4 activations with a vector of output channels."""

    name: str
    isa: Isa
    registers: int  # accumulators that leave room for the operands

    def order(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Weights `[..., lanes, 4]` as `[..., lanes * 4]`, in the order `multiply` reads."""

    def multiply(self, acc: Any, word: Any, load: Load) -> Any:
        """acc (int32 x lanes) + dot products of 4 activations and the weights of each lane.

        `word`: 4 stored bytes as an int32; `load(start, count)`: int8 weights in `order`'s order.
        """


def order_weights(weights: NDArray[np.int32], vectors: int, micro: Micro) -> NDArray[Any]:
    """`[O, KH, KW, I]` as `[tiles, codes of a tile]`, zero beyond O and I.

    A tile's codes are ordered kernel row, kernel column, group of 4 input channels, vector.
    """
    out, height, width, inputs = weights.shape
    lanes = micro.isa.lanes
    tiles = channel_vectors(out, lanes) // vectors
    groups = -(-inputs // GROUP)
    padded = np.zeros((tiles * vectors * lanes, height, width, groups * GROUP), np.int32)
    padded[:out, :, :, :inputs] = weights
    split = padded.reshape(tiles, vectors, lanes, height, width, groups, GROUP)
    ordered = micro.order(split.transpose(0, 3, 4, 5, 1, 2, 6))
    return ordered.reshape(tiles, -1)


def start_values(weights: NDArray[np.int32], zero: int, lanes: int) -> NDArray[np.int32]:
    """What the accumulators start at, `[vectors * lanes]`: -stored_zero * sum of weights."""
    channels = channel_vectors(weights.shape[0], lanes) * lanes
    start = np.zeros(channels, np.int32)
    start[: weights.shape[0]] = -zero * weights.reshape(weights.shape[0], -1).sum(axis=1)
    return start


class DotInner:
    """The arithmetic of a `RegisterNest`: `Micro` on groups of 4 channels."""

    def __init__(self, geometry: Dense, micro: Micro, weights: Weights, vectors: int) -> None:
        self.groups = -(-geometry.in_channels // GROUP)
        self._geometry = geometry
        self._micro = micro
        self._weights = weights
        self._vectors = vectors
        self._source: Any = None
        self._start: Any = None

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the bytes buffer; `start`: the buffer of `start_values`."""
        self._source, self._start = source, start

    def allocate(self) -> None:
        self._weights.allocate()

    def begin(self, tile: Any) -> None:
        self._weights.unpack(tile)

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return self._start[T.ramp(channel, 1, self._micro.isa.lanes)]

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        word = T.reinterpret("int32", self._source[(*place, T.ramp(group * GROUP, 1, GROUP))])
        groups, rest = divmod(self._geometry.in_channels, GROUP)
        if not (self._weights.grid.bipolar and rest):
            return word
        # Channels past C are undefined; weights of 0 there drop them, but bipolar ones are never 0.
        return T.bitwise_and(word, T.Select(group == groups, (1 << 8 * rest) - 1, -1))

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        first = (position * self._vectors + vector) * self._micro.isa.lanes * GROUP

        def load(start: int, count: int) -> Any:
            return self._weights.load(first + start, count)

        return self._micro.multiply(acc, activations, load)
