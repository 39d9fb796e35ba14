"""Ratios of samples that were taken in turn."""

from __future__ import annotations

import pytest
from turns import ratio


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """Half of the turns are disturbed, both programs alike: medians alone would say 0.2 or 20."""
    disturbed = [1.0, 10.0] * 20
    base = [2 * factor for factor in disturbed]
    found = ratio(base, disturbed)
    assert found.low == found.median == found.high == 2.0


def test_a_ratio_has_the_interval_of_its_turns() -> None:
    found = ratio([3.0] * 50, [1.0] * 25 + [3.0] * 25)
    assert (found.low, found.high) == (1.0, 3.0)
    assert found.median == 2.0


def test_a_ratio_needs_the_same_turns() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
