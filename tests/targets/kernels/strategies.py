"""Hypothesis strategies for convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.targets.kernels.convolutions import Case, convolution


@st.composite
def convolutions(
    draw: st.DrawFn,
    *,
    weights: Sequence[str],
    acts: Sequence[str],
    channels: Sequence[int],
    outs: Sequence[int],
    width: int = 5,
    three_by_three: bool = False,
) -> Case:
    """Any kernel up to 3x3, stride, dilation, uneven padding, batch and zero point.

    `three_by_three`: that kernel alone, without stride and dilation.
    """
    act = draw(st.sampled_from(acts))
    side, step, pad = st.integers(1, 3), st.integers(1, 2), st.integers(0, 2)
    if three_by_three:
        side, step = st.just(3), st.just(1)
    return convolution(
        image=(
            draw(st.integers(1, 2)),
            draw(st.integers(5, 9)),
            draw(st.integers(width, 19)),
            draw(st.sampled_from(channels)),
        ),
        out=draw(st.sampled_from(outs)),
        kernel=(draw(side), draw(side)),
        stride=(draw(step), draw(step)),
        dilation=(draw(step), draw(step)),
        padding=(draw(pad), draw(pad), draw(pad), draw(pad)),
        weights=draw(st.sampled_from(weights)),
        acts=act,
        zero=draw(st.sampled_from([0, 1])) if act[0] == "u" else 0,
        extreme=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )
