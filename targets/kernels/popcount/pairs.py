"""`Pairs`: words of input channels in pairs (x_0, x_0 ^ x_1), see `counter`, as a list of steps.

Weights are packed that way. The activations' pairs are formed once per call, next to each other:
a step reads two words of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Of `words` words of a pixel's channels, in each of `planes`, those of the activations."""

    words: int
    planes: int

    @property
    def each(self) -> int:
        """Pairs of a pixel's plane; the last of an odd number of words is paired with none."""
        return -(-self.words // 2)

    @property
    def pitch(self) -> int:
        """Words that a pixel's pairs take."""
        return 2 * self.each * self.planes

    def pack(self, words: NDArray[np.generic]) -> NDArray[np.uint32]:
        """Words of `pack_words`, one plane, as `[vectors, steps, 2, lanes]`."""
        vectors, taps, _, _, lanes = words.shape
        whole = np.zeros((vectors, taps, 2 * self.each, lanes), np.uint32)
        whole[:, :, : self.words] = words[:, :, :, 0]
        whole[:, :, 1::2] ^= whole[:, :, ::2]
        return whole.reshape(vectors, taps * self.each, 2, lanes)

    def table(self, geometry: Dense, width: int) -> NDArray[np.int32]:
        """Where the steps read, from the first word of an output pixel's first tap on, in an input
        buffer of rows of `width` pixels."""
        (height, across), (down, apart) = geometry.kernel, geometry.dilation
        pixels = np.add.outer(np.arange(height) * down * width, np.arange(across) * apart)
        places = np.add.outer(pixels.reshape(-1) * self.pitch, np.arange(self.each) * 2)
        table: NDArray[np.int32] = places.reshape(-1).astype(np.int32)
        return table

    def emit(self, source: Any) -> Any:
        """Emits the pairs of a bits buffer's words; returns their buffer, of one dimension."""
        from tvm.script.ir_builder import tirx as T

        images, rows, columns, planes, _ = (int(extent) for extent in source.shape)
        pixels = images * rows * columns
        pairs = T.alloc_buffer((pixels * self.pitch,), "uint32", scope="global")
        with T.serial(0, pixels) as pixel, T.serial(0, planes) as plane:
            row = pixel // columns
            at = (row // rows, row % rows, pixel % columns, plane)
            for pair in range(self.each):
                place = ((pixel * planes + plane) * self.each + pair) * 2
                first = source[(*at, 2 * pair)]
                both = first
                if 2 * pair + 1 < self.words:
                    both = T.bitwise_xor(first, source[(*at, 2 * pair + 1)])
                T.buffer_store(pairs, first, [place])
                T.buffer_store(pairs, both, [place + 1])
        return pairs

    def unpaired(self, weights: Any, vector: Any, tap: Any, word: Any, index: Any) -> Any:
        """A word of the weights as it was before `pack`; all positions may be expressions."""
        from tvm.script.ir_builder import tirx as T

        step = tap * self.each + word // 2
        first, own = weights[vector, step, 0, index], weights[vector, step, word % 2, index]
        return T.bitwise_xor(own, T.if_then_else(word % 2 == 1, first, T.bitwise_xor(own, own)))
