from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.data.splits import first_of_each_class, stratified

_labels = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)


@given(_labels, st.integers(0, 9), st.floats(0, 0.5), st.floats(0, 0.5))
def test_parts_are_a_partition_with_each_class_in_proportion(
    labels: np.ndarray, seed: int, first: float, second: float
) -> None:
    parts = stratified(labels, (first, second), seed)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for label in np.unique(labels):
        share = (labels[parts[0]] == label).sum()
        assert abs(share - first * (labels == label).sum()) <= 0.5 + 1e-9


@given(_labels, st.integers(1, 50))
def test_a_small_part_has_the_classes_in_turn(labels: np.ndarray, count: int) -> None:
    rows = np.arange(len(labels))
    taken = first_of_each_class(labels, rows, count)
    assert len(taken) == min(count, len(labels))
    have = np.bincount(labels, minlength=5)
    got = np.bincount(labels[taken], minlength=5)
    # A class falls behind the others only where it has no more images.
    assert (got[got < have] >= got.max() - 1).all()
