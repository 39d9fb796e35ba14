"""Minimal filtering F(m x m, 3 x 3) in integers: 9 m^2 products become (m + 2)^2, and none rounds.

With d a tile of (m + 2)^2 inputs and g a 3 x 3 filter, the m x m outputs are

    y = A^T [ (G g G^T) * (B^T d B) ] A / q^2        (* elementwise)

(Winograd 1980; Lavin and Gray, arXiv 1509.09308, equation 8). In floating point the transforms
cost accuracy, and on 8-bit codes they leave 8 bits. On *narrow* codes they do not: multiplied by
their common denominator, all matrices are integers, and with few bits the transformed inputs fit
unsigned and the transformed weights signed bytes. So the sum over input channels runs on the very
8-bit dot products that int8 uses, with 2.25 (m = 2) or 3.24 (m = 3) times fewer of them, and the
result is the exact integer convolution [o]: few bits become speed on a processor that has no
narrower arithmetic than bytes.

The denominators are put into G, where the weights' bytes have room for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import INT32_MAX, magnitudes

TAPS = 3
BYTE_SPAN = 255
WEIGHT_LIMIT = 127
FLOAT_LIMIT = 1 << 20  # integers x with |x| 2^-22 < 1/2: two roundings of a float32

Matrix = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filtering:
    """F(m, 3) in one dimension: matrices `[n, n]`, `[n, 3]`, `[m, n]` with n = m + 2."""

    m: int
    inputs: Matrix  # B^T
    weights: Matrix  # q G
    outputs: Matrix  # A^T
    divisor: int  # q

    @property
    def n(self) -> int:
        return self.m + TAPS - 1

    @property
    def shift(self) -> int | None:
        """log2 of q^2, None where that is no power of two."""
        square = self.divisor**2
        return square.bit_length() - 1 if square & (square - 1) == 0 else None

    @property
    def input_span(self) -> int:
        """Greatest width of a transformed input's range, in units of the input's own."""
        return int(np.abs(self.inputs).sum(axis=1).max()) ** 2

    @property
    def weight_gain(self) -> int:
        """Greatest magnitude of a transformed weight, in units of the weights' own."""
        return int(np.abs(self.weights).sum(axis=1).max()) ** 2

    def offsets(self, largest: int) -> Matrix:
        """What makes transformed inputs of [0, largest] unsigned, `[n, n]`: minus their least."""
        up, down = np.maximum(self.inputs, 0).sum(axis=1), np.maximum(-self.inputs, 0).sum(axis=1)
        return np.asarray(largest * (np.outer(up, down) + np.outer(down, up)), np.int64)

    def transform(self, weights: NDArray[np.int32]) -> Matrix:
        """Weights `[O, 3, 3, I]` as `[n, n, O, I]`."""
        g = self.weights
        return np.asarray(np.einsum("ra,sb,oabi->rsoi", g, g, weights.astype(np.int64)), np.int64)

    @staticmethod
    def gather(components: Matrix, outputs: Matrix) -> Matrix:
        """Components `[n, n, O]` as outputs `[m, m, O]`, by `outputs` or its magnitudes."""
        return np.asarray(np.einsum("pr,qs,rso->pqo", outputs, outputs, components), np.int64)


def _matrix(*rows: list[int]) -> Matrix:
    return np.array(rows, np.int64)


# Interpolation points 0, 1, -1, infinity.
F2 = Filtering(
    m=2,
    inputs=_matrix([1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]),
    weights=_matrix([2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]),
    outputs=_matrix([1, 1, 1, 0], [0, 1, -1, -1]),
    divisor=2,
)
# Interpolation points 0, 1, -1, 2, infinity.
F3 = Filtering(
    m=3,
    inputs=_matrix(
        [2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]
    ),
    weights=_matrix([3, 0, 0], [-3, -3, -3], [-1, 1, -1], [1, 2, 4], [0, 0, 6]),
    outputs=_matrix([1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]),
    divisor=6,
)
FILTERINGS = {filtering.m: filtering for filtering in (F2, F3)}


def fits(filtering: Filtering, largest: int, weights: NDArray[np.int32]) -> bool:
    """Whether inputs in [0, largest] and these weights `[O, 3, 3, I]` stay exact.

    Transformed inputs must fit unsigned bytes, transformed weights signed ones, and every partial
    sum, on the way to the outputs too, int32.
    """
    if filtering.input_span * largest > BYTE_SPAN:
        return False
    transformed = np.abs(filtering.transform(weights))
    if int(transformed.max(initial=0)) > WEIGHT_LIMIT:
        return False
    # Twice the span: the sum itself, and the correction that takes the offsets back.
    sums = 2 * BYTE_SPAN * transformed.sum(axis=3)
    results = largest * magnitudes(weights)
    outputs = filtering.gather(sums, np.abs(filtering.outputs)) + filtering.divisor**2 * results
    return _divides(filtering, results) and int(outputs.max(initial=0)) <= INT32_MAX


def _divides(filtering: Filtering, results: Matrix) -> bool:
    """Whether dividing by q^2 is exact: by a shift always, in float32 up to `FLOAT_LIMIT`."""
    # A result can be twice as large on its way, before the zero point is taken off.
    return filtering.shift is not None or 2 * int(results.max(initial=0)) <= FLOAT_LIMIT


def corrections(
    filtering: Filtering, weights: NDArray[np.int32], largest: int, zero: int
) -> NDArray[np.int32]:
    """What to add to every output before dividing by q^2, `[m * m, O]`.

    It takes back the inputs' offsets, and subtracts `zero` (the stored value that stands for 0)
    times the sum of the weights.
    """
    transformed = filtering.transform(weights).sum(axis=3)
    offsets = filtering.offsets(largest)[:, :, None] * transformed
    total = weights.astype(np.int64).sum(axis=(1, 2, 3))
    found = -filtering.gather(offsets, filtering.outputs) - zero * filtering.divisor**2 * total
    return np.asarray(found.reshape(filtering.m**2, -1), np.int32)
