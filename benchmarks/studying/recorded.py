"""A table of networks that were trained once: engines race on it as if they trained them anew.

The networks are drawn at random from the space of examples/bomp-digits.yaml, trained as its trials
are but for the epochs, and scored by their validation accuracy; bytes are counted.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import Budget, Precision
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import DataSpec, load_dataset
from mpqdeploy.nn import ModelSpec
from mpqdeploy.nn.training import Recipe
from mpqdeploy.search.bomp.networks import Choices, Networks
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.training import Fidelity, accuracies
from mpqdeploy.search.bomp.trial import Outcome
from mpqdeploy.ui import Ui
from studying.functions import Function

CHOICES = Choices(expansions=(1, 2, 3), repeats=(0, 1, 2))
NAMES = ("digits-table", "digits-table-front")
# Fixed here, so that a table is of the same space on every machine.
PRECISIONS = tuple(Precision.parse(text) for text in ("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))
FIDELITY = Fidelity(
    training=Recipe(epochs=4, batch_size=64, lr=0.05),
    tuning=Recipe(epochs=1, batch_size=64, lr=0.01),
)
# Of the median bytes of the table: some networks are inside, most of the accurate ones are not.
SHARE = 0.5


def record(rows: int, folder: Path, ui: Ui) -> None:
    """Train networks until the table has `rows`; every row is a file, so a killed run continues."""
    networks, dataset = _networks(), load_dataset(DataSpec(name="digits"))
    for number in range(rows):
        file = folder / f"{number:04d}.json"
        if file.exists():
            continue
        point = networks.space.sample(np.random.default_rng([1, number]))
        network, began = networks.network(point), time.perf_counter()
        scratch = folder / f"training-{number:04d}"
        found = accuracies(network, dataset, FIDELITY, scratch, device="cpu")
        shutil.rmtree(scratch)
        row = {"point": point, "costs": network.counted, **found.to_json()}
        write_json(file, {**row, "seconds": time.perf_counter() - began})
        ui.note(f"  network {number}: {100 * found.tuned:.1f} %, {network.counted['bytes']:.0f} B")


def tables(folder: Path, count: int) -> tuple[Function, ...]:
    """The first `count` rows twice: under a budget, and for the front of accuracy and bytes."""
    rows = [read_json(folder / f"{number:04d}.json") for number in range(count)]
    table = Table(rows)
    median = float(np.median([row["costs"]["bytes"] for row in rows]))
    most = max(row["costs"]["bytes"] for row in rows)
    return (
        Function(
            name=NAMES[0],
            space=table.space,
            evaluate=table.evaluate,
            admit=table.nearest,
            budgets=(Budget(metric="bytes", limit=SHARE * median),),
        ),
        Function(
            name=NAMES[1],
            space=table.space,
            evaluate=table.evaluate,
            admit=table.nearest,
            objective=Objective(kind="front", metric="bytes"),
            reference=(0.1, most),  # a guess among ten digits, and the largest network
        ),
    )


class Table:
    """Rows by point. What an engine proposes is replaced by the nearest row that is left."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.space = _networks().space
        self._points = [self.space.validate(row["point"]) for row in rows]
        self._keys = [self.space.key(point) for point in self._points]
        self._rows = dict(zip(self._keys, rows, strict=True))
        self._places = np.stack([self.space.encode(point) for point in self._points])

    def nearest(self, point: Point, tried: frozenset[str]) -> Point:
        """By distance in the encoding; the same rule for every engine."""
        distances = np.square(self._places - self.space.encode(point)).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        return next(self._points[i] for i in order if self._keys[i] not in tried)

    def evaluate(self, point: Point) -> Outcome:
        row = self._rows[self.space.key(point)]
        return Outcome(accuracy=row["tuned"], costs=row["costs"], seconds=row["seconds"])


def _networks() -> Networks:
    image = load_dataset(DataSpec(name="digits")).image
    spec = ModelSpec(name="mobile_digits", num_classes=10, image=image)
    return Networks(spec, PRECISIONS, CHOICES)
