"""`CostTable`: what each site costs at each precision; BOPs, bytes and latency are one type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.errors import ConfigError
from mpqdeploy.core.policy import Policy
from mpqdeploy.core.precision import Precision
from mpqdeploy.core.site import Site


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """Additive cost: offset + scale * sum over sites of factor[precision] * entry[precision].

    `offset` is 0, `scale` 1 and every factor 1 (those that `factors` does not name) for a table
    that was counted (BOPs, bytes); a table of measured kernel latencies gets them from the refit,
    because a network is more than its kernels [o].
    """

    metric: str
    unit: str
    entries: Mapping[str, Mapping[Precision, float]]
    offset: float = 0.0
    scale: float = 1.0
    factors: Mapping[Precision, float] = field(default_factory=dict)

    def cost(self, site: str, precision: Precision) -> float:
        """One site's share, without the offset. Raises `ConfigError` where the table has none."""
        try:
            entry = self.entries[site][precision]
        except KeyError:
            raise ConfigError(
                f"the {self.metric} table has no entry for site {site!r} at {precision}.",
                hint="Profile this precision, or leave it out of the candidates.",
            ) from None
        return self.scale * self.factors.get(precision, 1.0) * entry

    def of(self, policy: Policy) -> float:
        """Cost of a whole network, in `unit`."""
        sites = sum(self.cost(name, policy[name]) for name in self.entries)
        return self.offset + sites

    def vector(self, site: str, candidates: Sequence[Precision]) -> NDArray[np.float64]:
        """Costs of one site's candidates, shape `[len(candidates)]`: the coefficients of E[C]."""
        return np.array([self.cost(site, candidate) for candidate in candidates], dtype=np.float64)

    def expected(
        self,
        probabilities: Mapping[str, Any],
        candidates: Mapping[str, Sequence[Precision]],
    ) -> Any:
        """E[C] = offset + sum_i sum_j p_ij * cost_ij (spec/bp-nas, "Cost").

        `probabilities[site]` has shape `[len(candidates[site])]` and may be a numpy array or a
        tensor of any framework with arithmetic: the result is differentiable where that one is.
        """
        total: Any = self.offset
        for site, chances in probabilities.items():
            for chance, cost in zip(chances, self.vector(site, candidates[site]), strict=True):
                total = total + chance * float(cost)
        return total

    def bounds(self, candidates: Mapping[str, Sequence[Precision]]) -> tuple[float, float]:
        """Least and greatest reachable cost over the given candidates."""
        vectors = [self.vector(site, choices) for site, choices in candidates.items()]
        least = sum(float(vector.min()) for vector in vectors)
        greatest = sum(float(vector.max()) for vector in vectors)
        return self.offset + least, self.offset + greatest

    def to_json(self) -> dict[str, Any]:
        entries = {
            site: {str(precision): value for precision, value in costs.items()}
            for site, costs in self.entries.items()
        }
        return {
            "metric": self.metric,
            "unit": self.unit,
            "offset": self.offset,
            "scale": self.scale,
            "factors": {str(precision): value for precision, value in self.factors.items()},
            "entries": entries,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CostTable:
        entries = {
            site: {Precision.parse(text): float(value) for text, value in costs.items()}
            for site, costs in data["entries"].items()
        }
        factors = {Precision.parse(text): float(value) for text, value in data["factors"].items()}
        return cls(**{**data, "entries": entries, "factors": factors})


def bops_table(sites: Iterable[Site], precisions: Sequence[Precision]) -> CostTable:
    """Bit operations: MACs * weight bits * activation bits [F]."""
    entries = {
        site.name: {
            p: float(site.macs * p.weight_bits * p.act_bits) for p in _choices(site, precisions)
        }
        for site in sites
    }
    return CostTable(metric="bops", unit="BOPs", entries=entries)


def bytes_table(sites: Iterable[Site], precisions: Sequence[Precision]) -> CostTable:
    """Weight bytes at their own width: weights * weight bits / 8."""
    entries = {
        site.name: {p: site.weights * p.weight_bits / 8 for p in _choices(site, precisions)}
        for site in sites
    }
    return CostTable(metric="bytes", unit="B", entries=entries)


def _choices(site: Site, precisions: Sequence[Precision]) -> Sequence[Precision]:
    return (site.pinned,) if site.pinned else precisions
