"""`Policy`: which precision every site of a network takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mpqdeploy.core.errors import ConfigError
from mpqdeploy.core.precision import Precision
from mpqdeploy.core.site import Site


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Site name to precision, plus the architecture's hyper-parameters where those are searched."""

    precisions: Mapping[str, Precision]
    architecture: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "precisions", MappingProxyType(dict(self.precisions)))
        object.__setattr__(self, "architecture", MappingProxyType(dict(self.architecture)))

    def __getitem__(self, site: str) -> Precision:
        return self.precisions[site]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Policy.from_json, (self.to_json(),))

    @classmethod
    def uniform(cls, sites: Iterable[Site], precision: Precision) -> Policy:
        """Every free site at `precision`, every pinned site at its own."""
        return cls(precisions={site.name: site.pinned or precision for site in sites})

    def to_json(self) -> dict[str, Any]:
        return {
            "precisions": {name: str(precision) for name, precision in self.precisions.items()},
            "architecture": dict(self.architecture),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Policy:
        unknown = set(data) - {"precisions", "architecture"}
        if unknown:
            raise ConfigError(
                f"policy has an unknown key {sorted(unknown)[0]!r}.",
                hint='Its keys are "precisions" and "architecture".',
            )
        return cls(
            precisions={n: Precision.parse(text) for n, text in data["precisions"].items()},
            architecture=data.get("architecture", {}),
        )
