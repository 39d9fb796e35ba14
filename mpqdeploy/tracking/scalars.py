"""A search's epoch as named numbers."""

from __future__ import annotations

from collections.abc import Collection

from mpqdeploy.search.engine import Epoch


def scalars(epoch: Epoch) -> dict[str, float]:
    """By tag, grouped by the part before the first slash.

    Costs are in their table's unit; `argmax` is that of the network that would be picked now. A
    search that stalls shows in `max_probability` and `entropy` (nats), per site and as least and
    mean over all.
    """
    values = {f"loss/{name}": value for name, value in epoch.losses.items()}
    for metric, expected in epoch.expected.items():
        values[f"cost/{metric} expected"] = expected
        values[f"cost/{metric} argmax"] = epoch.argmax_cost[metric]
        if metric in epoch.limits:
            values[f"cost/{metric} budget"] = epoch.limits[metric]
    values |= {f"violation/{metric}": value for metric, value in epoch.violation.items()}
    values |= {"accuracy/val": epoch.val_accuracy, "time/seconds": epoch.seconds}
    for name, sites in (("max_probability", epoch.max_probability), ("entropy", epoch.entropy)):
        values |= {f"{name}/{site}": value for site, value in sites.items()}
    if epoch.max_probability:
        values["decided/least max probability"] = min(epoch.max_probability.values())
        values["decided/mean max probability"] = _mean(epoch.max_probability.values())
        values["decided/mean entropy"] = _mean(epoch.entropy.values())
    return values


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)
