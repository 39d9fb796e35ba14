"""The measured networks against the aims: met, or missed by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from networks.aims import Aim, Measure
from networks.table import OURS
from networks.zoo import WIDE

COLUMNS = ("network", "W/A", "measure", "aim", "here", "")
LEAST_SAID = 0.005  # less than that would be said as 0 %

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`here` is None where the row was not measured."""

    aim: Aim
    here: float | None

    @property
    def met(self) -> bool | None:
        if self.here is None:
            return None
        more = self.aim.measure.more
        return self.here >= self.aim.wanted if more else self.here <= self.aim.wanted

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.aim.network,
            "precision": self.aim.precision,
            "measure": self.aim.measure.label,
            "wanted": self.aim.wanted,
            "here": self.here,
            "met": self.met,
        }

    def cells(self) -> list[str]:
        aim = self.aim
        here = "-" if self.here is None else f"{self.here:.3g}"
        head = [aim.network, aim.precision, aim.measure.label, f"{aim.wanted:g}", here]
        return [*head, self._said()]

    def _said(self) -> str:
        if self.here is None:
            return "not measured"
        if self.met:
            return "met"
        by = abs(self.here / self.aim.wanted - 1)
        return f"missed by {by:.0%}" if by >= LEAST_SAID else "missed by less than 1%"


def verdicts(aims: Iterable[Aim], networks: Mapping[str, Json]) -> list[Verdict]:
    """Of the aims for the `networks`, by the JSON of each."""
    return [
        Verdict(aim=aim, here=_here(aim, networks[aim.network]))
        for aim in aims
        if aim.network in networks
    ]


def _here(aim: Aim, network: Json) -> float | None:
    made, wide = (_made(network, precision) for precision in (aim.precision, WIDE))
    if aim.measure in (Measure.COMPILE, Measure.TUNE):
        return _seconds(aim.measure, made) if made else None
    if aim.measure is Measure.LAYERS:
        return _share(aim.precision, made, wide) if made and wide else None
    row, base = (_ours(network, precision) for precision in (aim.precision, WIDE))
    if row is None or base is None:
        return None
    if aim.measure is Measure.PEER:
        return float(row["ratio"])
    if aim.measure is Measure.LIMIT:
        return row["limit_us"] / row["median_us"] if row["limit_us"] else None
    if aim.measure is Measure.BYTES:
        return float(row["file_bytes"] / base["file_bytes"])
    pairs = zip(base["samples_us"], row["samples_us"], strict=True)  # turn by turn, as `ratio`
    return float(np.median([before / after for before, after in pairs]))


def _made(network: Json, precision: str) -> Json | None:
    """How our library at a precision came about; the last, where it was compiled twice."""
    made = [made for made in network.get("making", ()) if made["precision"] == precision]
    return made[-1] if made else None


def _share(precision: str, made: Json, wide: Json) -> float | None:
    """Bytes of the constants (weights, starts, scales) of the layers that have this precision, over
    those of the same layers in the 8/8 library. None where there are none."""
    names = [name for name, layer in made["layers"].items() if layer["precision"] == precision]
    narrow, whole = (
        sum(int(one["layers"][name]["constant_bytes"]) for name in names) for one in (made, wide)
    )
    return narrow / whole if whole else None


def _seconds(measure: Measure, made: Json) -> float | None:
    """Tuning counts where nothing came from the database."""
    if measure is Measure.COMPILE:
        return float(made["compile_seconds"])
    tuning = made.get("tuning")
    cold = tuning is not None and tuning["timed"] == tuning["total"]
    return float(tuning["seconds"]) if cold else None


def _ours(network: Json, precision: str) -> Json | None:
    """Our fastest row at a precision."""
    rows = [
        row
        for row in network.get("rows", ())
        if row["runtime"] == OURS and row["precision"] == precision
    ]
    return min(rows, key=lambda row: float(row["median_us"]), default=None)
