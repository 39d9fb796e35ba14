from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.core import ConfigError
from mpqdeploy.core.shard import WHOLE, Shard


@given(st.integers(1, 9), st.integers(0, 20))
def test_parts_are_equal_disjoint_and_together_all(count: int, each: int) -> None:
    rows = np.random.default_rng(0).permutation(count * each)
    parts = [Shard(rank=rank, count=count).of(rows) for rank in range(count)]
    assert {len(part) for part in parts} == {each}
    np.testing.assert_array_equal(np.concatenate(parts), rows)


def test_one_process_has_the_whole() -> None:
    np.testing.assert_array_equal(WHOLE.of(np.arange(7)), np.arange(7))


def test_unequal_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 7 images cannot be cut into 2 equal parts"):
        Shard(rank=1, count=2).of(np.arange(7))
