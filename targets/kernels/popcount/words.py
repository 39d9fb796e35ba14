"""Bit-serial arithmetic: products of 1- and 2-bit codes as population counts of words.

With bit planes a_k of the stored activations and w_l of the weights, pop the number of set bits of
32 channels, and "sum" over channels:

    weights sum_l c_l w_l (two's complement):  sum(w a_k) = sum_l c_l pop(a_k & w_l)
    bipolar weights 2b - 1:                    sum(w a_k) = pop(b) - pop(a_k ^ b)

Unsigned activations are sum_k 2^k a_k; bipolar ones are 2 a - 1. Bits past the last channel are 0
in a and in w, and count nothing in either form. Everything that does not depend on the activations
is in the constant that an accumulator starts from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.register_tiles import channel_vectors
from mpqdeploy.targets.layout import WORD, planes
from mpqdeploy.targets.program import Grid


def weight_factors(grid: Grid) -> tuple[int, ...]:
    """c_l of every weight plane; a bipolar weight is one plane, of exclusive ors."""
    if grid.bipolar:
        return (-1,)
    factors = [1 << k for k in range(grid.bits)]
    return (*factors[:-1], -factors[-1]) if grid.signed else tuple(factors)


def pack_words(weights: NDArray[np.int32], grid: Grid, lanes: int) -> NDArray[Any]:
    """`[O, KH, KW, I]` as words `[vectors, taps, words, planes, lanes]`.

    Up to 16 channels are stored in half words: a word would double the model's weights.
    """
    out, height, width, inputs = weights.shape
    vectors = channel_vectors(out, lanes)
    stored = (weights > 0).astype(np.int32) if grid.bipolar else weights
    bits = np.stack([stored >> k & 1 for k in range(planes(grid))]).astype(np.uint8)
    size = WORD // 2 if inputs <= WORD // 2 else WORD
    rest = (0, vectors * lanes - out), (0, 0), (0, 0), (0, -inputs % size)
    padded = np.pad(bits, ((0, 0), *rest))
    packed = np.packbits(padded, axis=-1, bitorder="little")
    words = np.ascontiguousarray(packed).view(np.uint16 if size == WORD // 2 else np.uint32)
    split = words.reshape(planes(grid), vectors, lanes, height * width, -1)
    return np.ascontiguousarray(split.transpose(1, 3, 4, 0, 2))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """acc = start + scale * sum over planes (k, l) of factors[k][l] * pop(a_k op w_l)."""

    exclusive: bool
    scale: int
    factors: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, acts: Grid, weights: Grid) -> Terms:
        worth = [1 << k for k in range(planes(acts))]
        products = [[a * w for w in weight_factors(weights)] for a in worth]
        scale = products[0][0] * (2 if acts.bipolar else 1)
        factors = tuple(tuple(p // products[0][0] for p in row) for row in products)
        return cls(exclusive=weights.bipolar, scale=scale, factors=factors)


def start_constants(
    weights: NDArray[np.int32], grid: Grid, acts: Grid, zero: int, lanes: int
) -> NDArray[np.int32]:
    """What remains when every activation bit is taken out, per output channel.

    `zero`: stored zero of unsigned activations; bipolar ones have none, and here every tap counts.
    """
    flat = weights.reshape(weights.shape[0], -1)
    total = flat.sum(axis=1)
    ones = (flat > 0).sum(axis=1)
    if acts.bipolar:
        start = 2 * ones - total if grid.bipolar else -total
    else:
        most = (1 << acts.bits) - 1
        start = (most * ones if grid.bipolar else 0) - zero * total
    result = np.zeros(channel_vectors(weights.shape[0], lanes) * lanes, np.int32)
    result[: weights.shape[0]] = start
    return result
