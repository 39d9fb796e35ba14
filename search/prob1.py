"""Prob-1 regularizer: drives every site's distribution to one-hot.

    L_p = sum_i prod_j (1 - p_ij)                                                       [r]

Property 1. Every factor lies in [0, 1], so L_p >= 0, and a product is 0 exactly when one of its
factors is: L_p = 0 iff at every site some p_ij = 1, that is iff every distribution is one-hot.

Gradient with respect to one site's logits [o]. Let P_m = prod_{j != m} (1 - p_j), so that
dL/dp_m = -P_m; with the softmax's dp_k/dt_m = p_k ([k = m] - p_m),

    dL/dt_m = -p_m (P_m - sum_k p_k P_k),

which is -F p_m (1/(1-p_m) - sum_k p_k/(1-p_k)) with F = prod_j (1 - p_j), but without its 0/0 at
one-hot. At uniform p all P_m are equal and the gradient is 0: the regularizer cannot break a tie,
which is why its weight starts at 0 and grows only after the losses have broken it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def prob1(probabilities: Iterable[Tensor]) -> Tensor:
    """L_p of a network. `probabilities`: one `[J_i]` tensor per site; result a scalar."""
    return torch.stack([torch.prod(1.0 - p) for p in probabilities]).sum()


def prob1_gradient(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """dL_p/dlogits of one site in closed form, `[J] -> [J]`; the reference for the tests."""
    p = np.asarray(probabilities, dtype=np.float64)
    others = np.array([np.prod(np.delete(1.0 - p, m)) for m in range(len(p))])
    return np.asarray(-p * (others - p @ others), dtype=np.float64)
