"""Small real problems: the digits CNN on a few images."""

from __future__ import annotations

from functools import cache
from typing import cast

from mpqdeploy.core import Budget, Metric
from mpqdeploy.data import Dataset, DataSpec, load_dataset
from mpqdeploy.nn import ModelSpec, sites
from mpqdeploy.search.engine import Problem
from tests.search.spaces import all_tables, make_candidates


@cache
def few_digits() -> Dataset:
    limit = {"train": 64, "search": 32, "val": 40, "test": 40}
    return load_dataset(DataSpec(name="digits", limit=limit))


def tiny_problem(*, seed: int = 0, **rooms: float) -> Problem:
    """A narrow digits CNN; `bops=0.3` sets a budget at 30 % of the reachable BOPs."""
    dataset = few_digits()
    spec = ModelSpec(name="digits_cnn", num_classes=10, image=dataset.image, options={"width": 4})
    found = sites(spec)
    candidates, tables = make_candidates(found), all_tables(found)
    budgets = []
    for metric, room in rooms.items():
        least, greatest = tables[metric].bounds(candidates)
        limit = least + room * (greatest - least)
        budgets.append(Budget(metric=cast(Metric, metric), limit=limit))
    return Problem(
        spec=spec,
        dataset=dataset,
        candidates=candidates,
        tables=tables,
        budgets=tuple(budgets),
        seed=seed,
        device="cpu",
    )
