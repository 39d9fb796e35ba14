"""`Limit`: a budget as people write it: `250us`, `64KiB`, `1.2G`, or `75%` of uniform 8/8."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mpqdeploy.core import Budget, ConfigError, Metric

_UNITS: dict[Metric, dict[str, float]] = {
    "latency": {"": 1.0, "ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6},
    "bytes": {
        "": 1.0,
        "B": 1.0,
        "kB": 1e3,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    },
    "bops": {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
}
_EXAMPLES: dict[Metric, str] = {
    "latency": "250us, 0.25ms, 75%",
    "bytes": "64KiB, 0.5MB, 75%",
    "bops": "800M, 1.2G, 75%",
}
_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9.]*)\s*")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """`value` is in the metric's unit, or where `relative` a share of the uniform 8/8 network."""

    metric: Metric
    value: float
    relative: bool = False

    @classmethod
    def parse(cls, metric: Metric, text: str | float) -> Limit:
        """Read a number with a unit of the metric; without one it is µs, bytes or BOPs.

        Raises `ConfigError` for a unit of something else and for what is not positive.
        """
        match = _FORM.fullmatch(str(text))
        if match is None:
            raise _unreadable(metric, text)
        number, unit = float(match[1]), match[2]
        if metric == "bops" and unit.lower().endswith("bops"):
            unit = unit[:-4]
        factor = 0.01 if unit == "%" else _UNITS[metric].get(unit)
        if factor is None or number <= 0:
            raise _unreadable(metric, text)
        return cls(metric=metric, value=number * factor, relative=unit == "%")

    def resolve(self, uniform: float) -> Budget:
        """The budget in the metric's unit; `uniform` is the cost of the uniform 8/8 network."""
        return Budget(metric=self.metric, limit=self.value * (uniform if self.relative else 1.0))


def _unreadable(metric: Metric, text: str | float) -> ConfigError:
    return ConfigError(
        f"{text!r} is not a limit on {metric}.",
        hint=f"Write for example: {_EXAMPLES[metric]} (of the uniform 8/8 network).",
    )
