"""Fronts trained in full: what the networks that a study left come to, by one recipe for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mpqdeploy.core import UserError
from mpqdeploy.search.bomp.front import pareto
from mpqdeploy.search.bomp.training import Fidelity
from studying.races import Record
from studying.trained import Trained


def finals(
    trained: Trained, record: Record, recipe: Fidelity, most: int, ceiling: float
) -> list[dict[str, Any]]:
    """At most `most` networks of a race's front below `ceiling` bytes, evenly along it, by size.

    Each with its accuracy in the loop, and on the test split after the full training: in float,
    quantized after it, and fine-tuned. One whose training diverges is left out, and said.
    """
    return list(_finals(trained, record, recipe, most, ceiling))


def _finals(
    trained: Trained, record: Record, recipe: Fidelity, most: int, ceiling: float
) -> Iterator[dict[str, Any]]:
    inside = [trial for trial in record["trials"] if trial["costs"]["bytes"] < ceiling]
    front = pareto([(trial["accuracy"], trial["costs"]["bytes"]) for trial in inside])
    places = np.linspace(0, len(front) - 1, min(most, len(front))).round().astype(int)
    for trial in (inside[front[place]] for place in places):
        try:
            row = trained.row(trained.networks.network(trial["point"]), recipe, "test")
        except UserError as error:
            trained.ui.warn(f"a network of the front is left out: {error}")
            continue
        yield {
            "point": trial["point"],
            "in_loop": trial["accuracy"],
            **{key: row[key] for key in ("float32", "quantized", "tuned")},
            **row["costs"],
        }


def best_below(front: Sequence[dict[str, Any]], size: float, key: str = "tuned") -> float | None:
    """The best accuracy of at most `size` bytes; None where there is none."""
    return max((one[key] for one in front if one["bytes"] <= size), default=None)


def least_with(
    front: Sequence[dict[str, Any]], accuracy: float, key: str = "tuned"
) -> float | None:
    """The fewest bytes of an `accuracy` or better; None where there are none."""
    return min((one["bytes"] for one in front if one[key] >= accuracy), default=None)
