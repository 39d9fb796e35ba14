"""The arithmetic of the plain population count: a word and a vector of weights at a time."""

from __future__ import annotations

from typing import Any

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.popcount.words import Terms
from mpqdeploy.targets.kernels.register_tiles import Level
from mpqdeploy.targets.layout import WORD


class PopcountInner:
    """The arithmetic of a `RegisterNest`: words of 32 input channels."""

    parts = 1  # bit planes of weights are few
    apart = 0

    def __init__(self, geometry: Dense, terms: Terms, vectors: int, lanes: int) -> None:
        self.groups = -(-geometry.in_channels // WORD)
        self._terms = terms
        self._vectors = vectors
        self._lanes = lanes
        self._source: Any = None
        self._weights: Any = None
        self._tile: Any = None

    def bind(self, source: Any, weights: Any) -> None:
        """`source`: the bits buffer; `weights`: the buffer of `pack_words`."""
        self._source, self._weights = source, weights

    def allocate(self) -> None:
        """No scratch: words are read as they are stored."""

    def begin(self, tile: Any) -> None:
        self._tile = tile

    def start(self, channel: Any) -> Any:
        from tvm.script.ir_builder import tirx as T

        return T.broadcast(T.int32(0), self._lanes)

    def fetch(self, place: tuple[Any, Any, Any], group: Any) -> Any:
        return [self._source[(*place, k, group)] for k in range(len(self._terms.factors))]

    def ahead(self, level: Level, number: Any) -> None:
        """Bit planes of weights are few, and read in order."""

    def add(self, acc: Any, activations: Any, position: Any, vector: int) -> Any:
        for word, row in zip(activations, self._terms.factors, strict=True):
            for plane, factor in enumerate(row):
                place = (position // self.groups, position % self.groups)
                weights = self.words(self._tile * self._vectors + vector, *place, plane)
                acc = acc + self._count(word, weights) * factor
        return acc

    def words(self, vector: Any, tap: Any, group: Any, plane: int) -> Any:
        """32 input channels of every output channel of a vector, in one plane."""
        from tvm.script.ir_builder import tirx as T

        words = self._weights[vector, tap, group, plane, T.ramp(0, 1, self._lanes)]
        return T.cast(words, f"uint32x{self._lanes}")

    def _count(self, word: Any, weights: Any) -> Any:
        """Set bits of `word` op `weights`, in every lane."""
        from tvm.script.ir_builder import tirx as T

        operation = T.bitwise_xor if self._terms.exclusive else T.bitwise_and
        bits = operation(T.broadcast(word, self._lanes), weights)
        return T.cast(T.popcount(bits), f"int32x{self._lanes}")
