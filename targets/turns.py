"""What samples that were taken in turn, A B C, A B C, say of each other.

What else runs on a machine comes and goes, for milliseconds or minutes, and slows some kernels more
than others. Medians compare one kernel's quiet half with another's disturbed one where about half
of the turns were disturbed; least samples compare a sample that fell into a quiet millisecond with
others that did not [o]. Turns fall on all alike: so the least disturbed turns are found first, of
all kernels together, and kernels are compared within those.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

PART = 4  # one turn in so many counts,
FEWEST = 3  # but no fewer than these: one sample alone decides nothing


def in_quietest_turns(samples: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
    """Medians over the least disturbed turns, of samples `[turns]` by what was timed.

    A turn is disturbed by the mean of its samples, each over the median of what it is a sample of.
    Where not all have as many, they were not taken in turn, and each has turns of its own.
    """
    taken = {key: np.asarray(values, float) for key, values in samples.items()}
    if len({len(values) for values in taken.values()}) > 1:
        return {key: in_quietest_turns({key: values})[key] for key, values in samples.items()}
    if not taken:
        return {}
    together = np.stack(list(taken.values()))
    typical = np.maximum(np.median(together, axis=1, keepdims=True), np.finfo(float).tiny)
    disturbed = (together / typical).mean(axis=0)
    count = max(len(disturbed) // PART, FEWEST)
    quietest = np.argsort(disturbed, kind="stable")[:count]
    medians = np.median(together[:, quietest], axis=1)
    return dict(zip(taken, map(float, medians), strict=True))
