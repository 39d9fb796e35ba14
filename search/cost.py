"""Expected costs of a whole network as one matrix product.

    E[C_k] = offset_k + sum_i sum_j p_ij table_k[i][j]                                  [r], [o]

The distribution is always over pairs (weight bits, activation bits). Where a layer keeps two
softmaxes (`factorized`), its pair probabilities are the products p_m p_n, so that a table that is
itself a product, such as BOPs with E[m n] = E[m] E[n], needs no formula of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mpqdeploy.core import Budget, CostTable, Policy, Precision
from mpqdeploy.search.barrier import normalise

Candidates = Mapping[str, Sequence[Precision]]


class CostTerm(Protocol):
    """What the logits' loss pays for expected costs: a barrier, or a price."""

    def __call__(self, expected: Tensor, limit: Tensor) -> Tensor:
        """The payment for each metric `[K]`, of normalised costs and budgets `[K]`."""
        ...


class ExpectedCosts:
    """E[C] of every budgeted metric, and each budget, in the table's unit and normalised.

    Coefficients are laid out once as a `[K, sum_i J_i]` matrix, sites in the candidates' order.
    Budgets whose metric leaves no choice (`greatest == least`) have nothing to penalise; their
    row of `free` is false.
    """

    def __init__(
        self,
        tables: Mapping[str, CostTable],
        budgets: Sequence[Budget],
        candidates: Candidates,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        chosen = [tables[budget.metric] for budget in budgets]
        bounds = [table.bounds(candidates) for table in chosen]

        def tensor(rows: object) -> Tensor:
            return torch.tensor(rows, dtype=torch.float64)

        self._demands = [(tables[budget.metric], budget) for budget in budgets]
        self.metrics = tuple(budget.metric for budget in budgets)
        self.sites = tuple(candidates)
        self._device, self._dtype = device, dtype
        self._least = tensor([low for low, _ in bounds])
        span = tensor([high - low for low, high in bounds])
        self.free = span > 0
        self._greatest = self._least + torch.where(self.free, span, torch.ones_like(span))
        coefficients = tensor(
            [[c for s in self.sites for c in t.vector(s, candidates[s])] for t in chosen]
        )
        self._offset = tensor([table.offset for table in chosen])
        self._limits = tensor([budget.limit for budget in budgets])
        # Normalised before the cast: BOPs of a large network have more digits than a float32.
        scale = normalise(self._greatest, self._least, self._greatest) / (
            self._greatest - self._least
        )
        self._matrix = (coefficients * scale[:, None]).to(device=device, dtype=dtype)
        self._shift = ((self._offset - self._least) * scale).to(device=device, dtype=dtype)

    @property
    def limits(self) -> Tensor:
        """Normalised budgets, `[K]`."""
        limits = normalise(self._limits, self._least, self._greatest)
        return limits.to(device=self._device, dtype=self._dtype)

    def __call__(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Normalised E[C] of every metric, `[K]`, differentiable in `probabilities[site]: [J]`."""
        flat = torch.cat([probabilities[site] for site in self.sites])
        return self._shift + self._matrix @ flat

    def inside(self, policy: Policy) -> bool:
        """Whether every budget holds for `policy`, as the tables have it."""
        return all(budget.holds(table.of(policy)) for table, budget in self._demands)

    def in_units(self, normalised: Tensor) -> dict[str, float]:
        """Normalised costs `[K]` back in each table's unit."""
        values = normalised.detach().to("cpu", torch.float64)
        share = values / normalise(self._greatest, self._least, self._greatest)
        costs = self._least + share * (self._greatest - self._least)
        return dict(zip(self.metrics, costs.tolist(), strict=True))
