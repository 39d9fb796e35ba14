"""Whether a latency budget can be met: the smallest networks of the space, timed first."""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.core import Budget, BudgetError
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.search.bomp.reachable import smallest_at
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.draft import Reference, time_draft

MIXED = 0.9
"""How much of the fastest one's latency a network that mixes precisions may take [o]."""


def check_latency(
    context: Context, networks: Networks, against: Reference, budgets: Sequence[Budget]
) -> None:
    """Raise `BudgetError` for a latency budget that no network of the space can meet.

    The smallest shape is timed at one precision after another, the widest first, until one is
    inside. That is the first, but for budgets near the edge; the record store keeps what it took.
    """
    budget = next((budget for budget in budgets if budget.metric == "latency"), None)
    if budget is None:
        return
    found: dict[str, float] = {}
    for precision in context.precisions:
        network = smallest_at(networks, precision)
        place = context.about(network.spec, network.sites)
        label = f"smallest at {precision}"
        record = time_draft(place, label, network.policy, against)
        if budget.holds(record.median_us):
            return
        found[str(precision)] = record.median_us
    fastest = min(found, key=found.__getitem__)
    if budget.limit < MIXED * found[fastest]:
        raise BudgetError(
            f"the latency budget of {budget.limit:.6g} us is below the smallest network of the"
            f" space: that one takes {found[fastest]:.6g} us at {fastest}, its fastest precision.",
            hint="Raise the budget, or allow narrower networks.",
        )
