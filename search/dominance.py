"""Precisions that buy nothing on this target: no cheaper than a wider one, so dropped per site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import CostTable, Precision
from mpqdeploy.search.cost import Candidates

TOLERANCE: Mapping[str, float] = {"latency": 0.01}
"""By how much a narrower precision must undercut a wider one, as a share of the wider one's cost.

Counted metrics are exact; a measured latency repeats to about 1 % [o].
"""


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """What is left to search, and one line per dropped precision for the log."""

    candidates: Mapping[str, tuple[Precision, ...]]
    reasons: tuple[str, ...]


def drop_dominated(
    candidates: Candidates,
    tables: Sequence[CostTable],
    *,
    tolerance: Mapping[str, float] = TOLERANCE,
) -> Narrowed:
    """Drop every candidate that a wider one dominates under *every* table given [o].

    Wider: at least as many weight bits and activation bits. Give the tables of the budgets that
    are set: a precision that is slower but smaller stays where bytes are limited too. Candidates
    are met from the widest on and compared with those kept so far, so a chain of precisions, each
    within the tolerance of the next, cannot add its tolerances up.
    """
    kept: dict[str, tuple[Precision, ...]] = {}
    reasons: list[str] = []
    for site, choices in candidates.items():
        stay: list[Precision] = []
        for narrow in sorted(choices, key=lambda p: (p.weight_bits * p.act_bits, p), reverse=True):
            wide = next((w for w in stay if _dominates(w, narrow, site, tables, tolerance)), None)
            if wide is None:
                stay.append(narrow)
            else:
                reasons.append(_reason(site, narrow, wide, tables))
        kept[site] = tuple(p for p in choices if p in stay)
    return Narrowed(candidates=kept, reasons=tuple(reasons))


def _dominates(
    wide: Precision,
    narrow: Precision,
    site: str,
    tables: Sequence[CostTable],
    tolerance: Mapping[str, float],
) -> bool:
    wider = wide.weight_bits >= narrow.weight_bits and wide.act_bits >= narrow.act_bits
    return wider and all(
        table.cost(site, narrow) >= (1 - tolerance.get(table.metric, 0.0)) * table.cost(site, wide)
        for table in tables
    )


def _reason(site: str, narrow: Precision, wide: Precision, tables: Sequence[CostTable]) -> str:
    costs = ", ".join(
        f"{table.metric} {table.cost(site, narrow):.6g} {table.unit} against "
        f"{table.cost(site, wide):.6g}"
        for table in tables
    )
    return f"{site}: {narrow} dropped, {wide} is no dearer ({costs})."
