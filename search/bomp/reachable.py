"""The smallest networks of a space, and whether a budget can be met at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from mpqdeploy.core import Budget, BudgetError, Precision
from mpqdeploy.search.bomp.networks import Network, Networks, bits_at
from mpqdeploy.search.bomp.parameters import Point, Value
from mpqdeploy.search.bomp.space import Space


def check_smallest(networks: Networks, budgets: Sequence[Budget]) -> None:
    """Raise `BudgetError` for a budget on bytes or BOPs that the smallest network exceeds.

    Latency is not known before it is measured: `smallest_at` gives the networks to measure.
    """
    counted = [budget for budget in budgets if budget.metric != "latency"]
    points = _smallest(networks.space) if counted else iter(())
    costs = [networks.network(point).counted for point in points]
    for budget in counted:
        least = min(cost[budget.metric] for cost in costs)
        if not budget.holds(least):
            raise BudgetError(
                f"the budget of {budget.limit:.6g} {budget.metric} is below the smallest network"
                f" of the space: that one has {least:.6g}.",
                hint="Raise the budget, or allow narrower networks or fewer bits.",
            )


def smallest_at(networks: Networks, precision: Precision) -> Network:
    """The network of the fewest BOPs that has `precision` wherever it may."""
    found = [networks.network(point) for point in _smallest(networks.space, precision)]
    return min(found, key=lambda network: network.counted["bops"])


def _smallest(space: Space, precision: Precision | None = None) -> Iterator[Point]:
    """Every parameter at its least value, with and without each stage that may be left out.

    A stage that is left out costs nothing itself, but the next one may read more channels then.
    Bits are the least, or `precision`.
    """
    optional = [p for p in space.parameters if p.name.endswith(".repeats") and p.values[0] == 0]
    for counts in product(*(p.values[:2] for p in optional)):
        chosen = dict(zip((p.name for p in optional), counts, strict=True))
        if precision is not None:
            chosen |= bits_at(space, precision)
        point: dict[str, Value] = {}
        for parameter in space.parameters:
            if space.active(parameter, point):
                point[parameter.name] = chosen.get(parameter.name, parameter.values[0])
        yield point
