"""A table of networks that were trained once: engines race on it as if they trained them anew.

Its networks are those that the live studies tried, and more that random search draws; all are
trained as the trials of the live studies are. So good networks are more frequent in it than in the
space, and an engine that asks for one finds one near.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpqdeploy.core import Budget
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Outcome
from studying.digits import ARMS, reference_of
from studying.functions import Function
from studying.trained import FRONT, Row, Trained

NAMES = ("digits-table", "digits-table-front")
SEEDS = 5
"""Rows are drawn in turn as the trials of so many seeds."""
# Of the median bytes of the table: some networks are inside, most of the accurate ones are not.
SHARE = 0.5


def tables(trained: Trained, tried: Sequence[Point], draws: int) -> tuple[Function, ...]:
    """One table twice: under a budget, and for the front of accuracy and bytes.

    Its rows are the points that were `tried` and so many `draws`, trained where that has not been
    done; a point that comes again is one row.
    """
    space = trained.networks.space
    drawn = [trained.drawn(number % SEEDS, number // SEEDS) for number in range(draws)]
    found = {space.key(point): space.validate(point) for point in (*tried, *drawn)}
    points = list(found.values())
    table = Table(space, points, [trained.trial(point) for point in points])
    trained.ui.note(f"  a table of {len(points)} networks")
    under = Function(
        name=NAMES[0],
        space=table.space,
        evaluate=table.evaluate,
        admit=table.nearest,
        budgets=(Budget(metric="bytes", limit=SHARE * table.median),),
    )
    front = Function(
        name=NAMES[1],
        space=table.space,
        evaluate=table.evaluate,
        admit=table.nearest,
        objective=FRONT,
        reference=reference_of(trained),
    )
    return under, front


class Table:
    """Rows by point. What an engine proposes is replaced by the nearest row that is left."""

    def __init__(self, space: Space, points: Sequence[Point], rows: Sequence[Row]) -> None:
        self.space = space
        self._points = [space.validate(point) for point in points]
        self._keys = [space.key(point) for point in self._points]
        self._rows = dict(zip(self._keys, rows, strict=True))
        self._places = np.stack([space.encode(point) for point in self._points])

    @property
    def median(self) -> float:
        """Median of the bytes."""
        return float(np.median([row["costs"]["bytes"] for row in self._rows.values()]))

    def nearest(self, point: Point, tried: frozenset[str]) -> Point:
        """By distance in the encoding; the same rule for every engine."""
        distances = np.square(self._places - self.space.encode(point)).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        return next(self._points[i] for i in order if self._keys[i] not in tried)

    def evaluate(self, point: Point) -> Outcome:
        row = self._rows[self.space.key(point)]
        return Outcome(accuracy=row[ARMS["QAFT"]], costs=row["costs"], seconds=row["seconds"])
