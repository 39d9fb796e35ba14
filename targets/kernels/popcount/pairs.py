"""Words of input channels in pairs (x_0, x_0 ^ x_1): see `counter`.

Weights are packed that way; the activations' exclusive ors are formed once per call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pair_words(words: NDArray[Any]) -> NDArray[np.uint32]:
    """Words of `pack_words`, one plane, as `[vectors, taps, words, lanes]`: the second of every
    pair replaced by its exclusive or with the first."""
    paired: NDArray[np.uint32] = words[:, :, :, 0].astype(np.uint32)
    whole = paired.shape[2] // 2 * 2
    paired[:, :, 1:whole:2] ^= paired[:, :, 0:whole:2]
    return paired


def unpaired(weights: Any, vector: Any, tap: Any, word: Any, lanes: int) -> Any:
    """The word that `pair_words` has replaced, again; all positions may be expressions."""
    from tvm.script.ir_builder import tirx as T

    index = T.ramp(0, 1, lanes)
    own = weights[vector, tap, word, index]
    before = weights[vector, tap, T.max(word - 1, 0), index]
    zero = T.broadcast(T.uint32(0), lanes)
    return T.bitwise_xor(own, T.if_then_else(word % 2 == 1, before, zero))


def pair_activations(source: Any, pairs: Any, words: int) -> None:
    """Emits the exclusive ors of the first `words` words of every pixel of `source`, a bits buffer,
    to `pairs`, `[N, H, W, planes, pairs]`; the last of an odd number stays as it is, where `pairs`
    has a place for it."""
    from tvm.script.ir_builder import tirx as T

    images, rows, columns, planes, _ = source.shape
    with T.serial(0, images * rows) as row, T.serial(0, columns * planes) as place:
        at = (row // rows, row % rows, place // planes, place % planes)
        with T.serial(0, words // 2) as pair:
            both = T.bitwise_xor(source[(*at, 2 * pair)], source[(*at, 2 * pair + 1)])
            T.buffer_store(pairs, both, [*at, pair])
        if words % 2 and int(pairs.shape[-1]) > words // 2:
            T.buffer_store(pairs, source[(*at, words - 1)], [*at, words // 2])
