"""Search spaces and cost tables to test with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpqdeploy.core import CostTable, Geometry, Precision, Site, bops_table, bytes_table
from mpqdeploy.core.precision import parse_precisions

WIDE = parse_precisions(["8/8", "4/8", "4/4", "2/2", "1/2", "1/1"])


def make_sites(count: int, *, pin_ends: bool = True) -> tuple[Site, ...]:
    """A chain of 3x3 convolutions of growing width, first and last at 8/8."""
    pin = Precision(weight_bits=8, act_bits=8)
    return tuple(
        Site(
            name=f"layer{i}.conv",
            geometry=Geometry(
                op="conv",
                in_channels=8 * (i + 1),
                out_channels=8 * (i + 2),
                in_size=(8, 8),
                kernel=(3, 3),
                padding=(1, 1, 1, 1),
            ),
            pinned=pin if pin_ends and i in (0, count - 1) else None,
        )
        for i in range(count)
    )


def make_candidates(
    sites: Sequence[Site], choices: Sequence[Precision] = WIDE
) -> dict[str, tuple[Precision, ...]]:
    return {s.name: (s.pinned,) if s.pinned else tuple(choices) for s in sites}


def latency_table(
    sites: Sequence[Site], choices: Sequence[Precision] = WIDE, *, seed: int = 0
) -> CostTable:
    """Microseconds that grow with the bits, not in proportion, and not at every site alike."""
    rng = np.random.default_rng(seed)
    entries = {}
    for site in sites:
        precisions = (site.pinned,) if site.pinned else tuple(choices)
        base = site.macs / 2e5
        entries[site.name] = {
            p: base * (0.1 + (p.weight_bits * p.act_bits / 64) ** 0.5) * rng.uniform(0.8, 1.2)
            for p in precisions
        }
    return CostTable(metric="latency", unit="us", entries=entries)


def all_tables(sites: Sequence[Site], choices: Sequence[Precision] = WIDE) -> dict[str, CostTable]:
    return {
        "latency": latency_table(sites, choices),
        "bytes": bytes_table(sites, choices),
        "bops": bops_table(sites, choices),
    }
