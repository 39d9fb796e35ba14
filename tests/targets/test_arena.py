from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.targets.passes.arena import ALIGNMENT, Lifetime, place

lifetimes = st.builds(
    lambda size, first, length: Lifetime(size=size, first=first, last=first + length),
    st.integers(1, 5000),
    st.integers(0, 12),
    st.integers(0, 6),
)


@given(st.lists(lifetimes, max_size=14))
def test_buffers_that_live_together_never_overlap(found: list[Lifetime]) -> None:
    buffers = dict(enumerate(found))
    arena = place(buffers)
    assert set(arena.offsets) == set(buffers)
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets.values())
    ends = {key: arena.offsets[key] + buffers[key].size for key in buffers}
    assert arena.size == max(ends.values(), default=0)
    for one, other in itertools.combinations(buffers, 2):
        if buffers[one].meets(buffers[other]):
            assert ends[one] <= arena.offsets[other] or ends[other] <= arena.offsets[one]


def test_buffers_of_a_chain_take_turns() -> None:
    """Each step reads what the step before it wrote: two places are enough."""
    chain = {step: Lifetime(size=640, first=step, last=step + 1) for step in range(10)}
    assert place(chain).size == 2 * 640


def test_a_residual_keeps_its_place() -> None:
    buffers = {
        "shortcut": Lifetime(size=1000, first=0, last=2),
        "one": Lifetime(size=100, first=0, last=1),
        "two": Lifetime(size=100, first=1, last=2),
    }
    arena = place(buffers)
    assert arena.offsets["shortcut"] == 0
    assert {arena.offsets["one"], arena.offsets["two"]} == {1024, 1024 + 128}
