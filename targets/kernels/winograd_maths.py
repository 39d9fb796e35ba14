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

The denominators are put where they widen no byte: in A, which works on 32-bit sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import INT32_MAX

TAPS = 3
BYTE_SPAN = 255
WEIGHT_LIMIT = 127

Matrix = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filtering:
    """F(m, 3) in one dimension: matrices `[n, n]`, `[n, 3]`, `[m, n]` with n = m + 2.

    `shared`: the component that every output contains with the same factor, `factor`.
    """

    m: int
    inputs: Matrix  # B^T
    weights: Matrix  # G, rows scaled to integers
    outputs: Matrix  # q A^T, columns scaled back
    divisor: int  # q
    shared: int

    @property
    def n(self) -> int:
        return self.m + TAPS - 1

    @property
    def factor(self) -> int:
        return int(self.outputs[0, self.shared]) ** 2

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


def _matrix(*rows: list[int]) -> Matrix:
    return np.array(rows, np.int64)


# Interpolation points 0, 1, -1, infinity.
F2 = Filtering(
    m=2,
    inputs=_matrix([1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]),
    weights=_matrix([2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]),
    outputs=_matrix([1, 1, 1, 0], [0, 1, -1, -1]),
    divisor=2,
    shared=1,
)
# Interpolation points 0, 1, -1, 2, infinity.
F3 = Filtering(
    m=3,
    inputs=_matrix(
        [2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]
    ),
    weights=_matrix([1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [0, 0, 1]),
    outputs=_matrix([3, 3, 1, 1, 0], [0, 3, -1, 2, 0], [0, 3, 1, 4, 6]),
    divisor=6,
    shared=1,
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
    # Twice the span: the sum itself, and the start value that takes the offsets back.
    sums = 2 * BYTE_SPAN * transformed.sum(axis=3)
    gain = np.abs(filtering.outputs)
    outputs = np.einsum("pr,qs,rso->pqo", gain, gain, sums)
    return int(outputs.max(initial=0)) <= INT32_MAX


def start_values(
    filtering: Filtering, weights: NDArray[np.int32], largest: int, zero: int
) -> NDArray[np.int32]:
    """What the sums of every component start at, `[n * n, O]`.

    It takes back the inputs' offsets, and subtracts `zero` (the stored value that stands for 0)
    times the sum of the weights from every output, through the shared component.
    """
    transformed = filtering.transform(weights).sum(axis=3)
    start = -filtering.offsets(largest)[:, :, None] * transformed
    total = weights.astype(np.int64).reshape(weights.shape[0], -1).sum(axis=1)
    per_output = zero * filtering.divisor**2 * total
    start[filtering.shared, filtering.shared] -= per_output // filtering.factor
    return np.asarray(start.reshape(filtering.n**2, -1), np.int32)
