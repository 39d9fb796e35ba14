"""What the comparison says: rows, ratios with intervals, and how far each row is from the limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from turns import ratio

from mpqdeploy.core import LatencyRecord

OURS = "mpqdeploy"
COLUMNS = ("runtime", "W/A", "how", "ms", "95%", "x int8 peer", "95%", "of limit", "bytes")
MAKING = (
    "W/A", "how", "compile s", "candidates timed", "tune s", "from database s", "flips", "kernels"
)  # fmt: skip
STEPS = ("step", "layer", "W/A", "kernel", "schedule", "MMAC", "us", "GMAC/s", "of limit")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One timed program. `how`: the peer's quantization, or how our schedules were chosen."""

    runtime: str
    precision: str
    how: str
    latency: LatencyRecord
    file_bytes: int


def better_peer(rows: Sequence[Row]) -> Row:
    """The fastest row that is not ours. Raises `ValueError` where there is none."""
    return min((row for row in rows if row.runtime != OURS), key=lambda row: row.latency.median_us)


def limit_us(macs: int, peak_macs: int, peak: LatencyRecord) -> float:
    """Microseconds that `macs` take at the rate of `peak_macs` per run of the peak kernel."""
    return macs / peak_macs * peak.median_us


def to_json(row: Row, base: Row, limit: float | None) -> dict[str, Any]:
    """A row with everything derived; times in microseconds, raw samples last."""
    against = ratio(base.latency.samples_us, row.latency.samples_us)
    latency = row.latency
    return {
        "runtime": row.runtime,
        "precision": row.precision,
        "how": row.how,
        "median_us": latency.median_us,
        "interval_us": list(latency.interval_us),
        "least_us": min(latency.samples_us),
        "ratio": against.median,
        "ratio_interval": [against.low, against.high],
        "limit_us": limit,
        "file_bytes": row.file_bytes,
        "protocol": {"samples": latency.protocol.samples, "inner": latency.protocol.inner},
        "samples_us": [round(sample, 2) for sample in latency.samples_us],
    }


def cells(data: dict[str, Any]) -> list[str]:
    """One line of the table from `to_json`'s row."""
    low, high = data["interval_us"]
    worst, best = data["ratio_interval"]
    limit = data["limit_us"]
    return [
        data["runtime"],
        data["precision"],
        data["how"],
        f"{data['median_us'] / 1e3:.3f}",
        f"{low / 1e3:.3f}-{high / 1e3:.3f}",
        f"{data['ratio']:.2f}",
        f"{worst:.2f}-{best:.2f}",
        "-" if limit is None else f"{limit / data['median_us']:.0%}",
        f"{data['file_bytes']:,}",
    ]


def making_cells(made: dict[str, Any]) -> list[str]:
    """One line of the table of how our libraries came about."""
    tuning = made.get("tuning")
    kernels = Counter(made["kernels"].values())
    return [
        made["precision"],
        made["how"],
        f"{made['compile_seconds']:.1f}",
        f"{tuning['timed']} of {tuning['total']}" if tuning else "-",
        f"{tuning['seconds']:.1f}" if tuning else "-",
        f"{made['from_database_seconds']:.2f}" if tuning else "-",
        "-" if made["flips"] is None else str(made["flips"]),
        " ".join(f"{count} {name}" for name, count in kernels.most_common()),
    ]


def step_cells(step: dict[str, Any], peak_gmacs: float | None) -> list[str]:
    """One line of the breakdown: a kernel, and its rate where it multiplies."""
    multiplies = step["macs"] > 0
    share = f"{step['gmacs'] / peak_gmacs:.0%}" if multiplies and peak_gmacs else "-"
    return [
        step["name"],
        step["layer"],
        step["precision"],
        step["kernel"],
        " ".join(f"{key}={value}" for key, value in step["schedule"].items()),
        f"{step['macs'] / 1e6:.1f}" if multiplies else "-",
        f"{step['median_us']:.1f}",
        f"{step['gmacs']:.0f}" if multiplies else "-",
        share,
    ]
