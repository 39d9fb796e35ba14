"""The smallest network, against all networks of a space that can be walked through."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mpqdeploy.core import Budget, BudgetError, Metric, parse_precisions
from mpqdeploy.nn import ModelSpec
from mpqdeploy.search.bomp.networks import Choices, Networks
from mpqdeploy.search.bomp.reachable import check_smallest, smallest_at

DIGITS = ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8))


@pytest.fixture(scope="module")
def networks() -> Networks:
    choices = Choices(
        kernels=(3,), widths=(0.5, 1.5), expansions=(2,), repeats=(0, 1), head_widths=(0.5,)
    )
    return Networks(DIGITS, parse_precisions(("8/8",)), choices)


@pytest.mark.parametrize("metric", ["bytes", "bops"])
def test_a_budget_is_refused_below_the_least_cost_and_not_at_it(
    networks: Networks, metric: Metric
) -> None:
    least = min(networks.network(point).counted[metric] for point in networks.space.points())
    check_smallest(networks, [Budget(metric=metric, limit=least)])
    said = f"{metric} is below the smallest network of the space: that one has {least:.6g}"
    with pytest.raises(BudgetError, match=re.escape(said)):
        check_smallest(networks, [Budget(metric=metric, limit=0.99 * least)])


def test_of_latency_nothing_is_known_yet(networks: Networks) -> None:
    check_smallest(networks, [Budget(metric="latency", limit=1e-9)])


def test_the_smallest_at_a_precision_has_it_wherever_it_may() -> None:
    precisions = parse_precisions(("8/8", "4/8", "4/4", "1/2", "1/1"))
    networks = Networks(DIGITS, precisions, Choices(widths=(0.5, 1.0), repeats=(0, 1)))
    for precision in precisions:
        network = smallest_at(networks, precision)
        free = [site.name for site in network.sites if site.pinned is None]
        assert free
        assert {network.policy[name] for name in free} == {precision}
    rng = np.random.default_rng(0)
    least = smallest_at(networks, precisions[-1]).counted["bops"]
    drawn = [networks.network(networks.space.sample(rng)).counted["bops"] for _ in range(50)]
    assert least <= min(drawn)
