from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.targets.turns import FEWEST, PART, in_quietest_turns


def test_a_sample_in_a_quiet_millisecond_decides_nothing() -> None:
    """As it was measured: the slower one's least sample is less than the faster one's."""
    fast = [64, 62, 61, 63, 63, 64, 55, 59, 124, 179, 61, 59, 61, 62, 63, 63, 63, 58, 59, 59]
    slow = [75, 76, 47, 75, 88, 71, 85, 67, 79, 74, 71, 77, 71, 72, 79, 73, 74, 73, 72, 74]
    found = in_quietest_turns({"fast": fast, "slow": slow})
    assert found["fast"] < 63 < 70 < found["slow"]


@pytest.mark.parametrize("disturbed", [8, 15, 16, 22])
def test_the_quiet_turns_are_compared_however_many_there_are(disturbed: int) -> None:
    """One is faster alone, the other beside somebody else's work: their medians change places."""
    rng = np.random.default_rng(disturbed)
    beside = np.arange(30) < disturbed
    rng.shuffle(beside)
    alone = {"one": 100.0, "other": 110.0}
    busy = {"one": 200.0, "other": 150.0}
    samples = {key: np.where(beside, busy[key], alone[key]).tolist() for key in alone}
    assert in_quietest_turns(samples) == alone


@given(
    samples=st.lists(st.floats(1, 1e3), min_size=1, max_size=40),
    factor=st.floats(0.1, 10),
    disturbance=st.floats(1, 5),
)
def test_what_falls_on_all_alike_changes_no_ratio(
    samples: list[float], factor: float, disturbance: float
) -> None:
    own = np.array(samples) * np.linspace(1, disturbance, len(samples))
    found = in_quietest_turns({"a": own.tolist(), "b": (own * factor).tolist()})
    assert found["b"] == pytest.approx(found["a"] * factor)
    alone = in_quietest_turns({"a": own.tolist()})
    assert alone["a"] == pytest.approx(found["a"])


def test_others_have_turns_of_their_own() -> None:
    many = [9.0] * 30 + [5.0] * 10
    found = in_quietest_turns({"sketch": [7.0, 8.0, 6.0, 9.0, 50.0], "full": many})
    assert len(many) // PART == 10
    assert FEWEST == 3
    assert found == {"sketch": 7.0, "full": 5.0}
    assert in_quietest_turns({}) == {}
