"""Bit-serial convolutions against exact integer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import kernels_for
from mpqdeploy.targets.kernels.popcount import CARRY_SAVE, PAIRED, POPCOUNT
from mpqdeploy.targets.kernels.popcount.words import pack_words
from mpqdeploy.targets.layout import WORD
from tests.targets.kernels.convolutions import Case, check, convolution, grid_of, runs_here
from tests.targets.kernels.strategies import convolutions

LEVELS = [isa for isa in Isa if runs_here(isa)]
each_level = pytest.mark.parametrize("isa", LEVELS)
CASES = convolutions(
    weights=["b", "s2", "n2", "u2", "s1", "u1"],
    acts=["b", "u1", "u2", "s2"],
    channels=[3, 16, 17, 33, 100],
    outs=[10, 16, 17, 33, 64],
)


@each_level
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=CASES, extra=st.integers(0, 1))
def test_exact_for_every_geometry_and_width(isa: Isa, case: Case, extra: int) -> None:
    assert POPCOUNT.matches(case.step, case.tensors, isa)
    check(case, POPCOUNT, isa, extra)


@each_level
@pytest.mark.parametrize("weights", ["b", "s2"])
def test_padded_taps_of_bipolar_activations_count_nothing(isa: Isa, weights: str) -> None:
    """All activations -1, as the border's bits say too: only an exact border tells them apart."""
    case = convolution(
        image=(2, 3, 4, 20), out=17, weights=weights, acts="b", padding=(2, 1, 0, 2), stride=(2, 1)
    )
    case.codes[:] = -1
    check(case, POPCOUNT, isa)


@pytest.mark.parametrize(("channels", "bits"), [(16, 16), (32, 32), (64, 64), (100, 128)])
def test_weights_take_their_own_width(channels: int, bits: int) -> None:
    weights = np.ones((32, 3, 3, channels), np.int32)
    packed = pack_words(weights, grid_of("b"), 16)
    assert packed.nbytes == 32 * 9 * bits // 8


SIGNS = convolutions(
    weights=["b"],
    acts=["b", "u1", "u2", "s2"],
    channels=[17, 33, 64, 100],
    outs=[10, 17, 33, 64],
)


PAIRS = convolutions(
    weights=["b"],
    acts=["b", "u1", "u2", "s2"],
    channels=[33, 64, 100, 128],
    outs=[10, 17, 33, 64],
)


@each_level
@settings(max_examples=5, deadline=None, derandomize=True)
@given(case=SIGNS, extra=st.integers(0, 1))
def test_carry_save_is_exact_for_every_geometry(isa: Isa, case: Case, extra: int) -> None:
    assert CARRY_SAVE.matches(case.step, case.tensors, isa)
    check(case, CARRY_SAVE, isa, extra)


@each_level
@settings(max_examples=5, deadline=None, derandomize=True)
@given(case=PAIRS, extra=st.integers(0, 1))
def test_pairs_are_exact_for_every_geometry(isa: Isa, case: Case, extra: int) -> None:
    assert PAIRED.matches(case.step, case.tensors, isa)
    check(case, PAIRED, isa, extra)


@pytest.mark.parametrize(
    ("channels", "words", "offered"),
    [(33, 2, True), (96, 3, False), (160, 5, False), (224, 7, True)],
)
def test_pairs_are_whole_or_many(channels: int, words: int, offered: bool) -> None:
    case = convolution(image=(1, 4, 4, channels), out=16, weights="b", acts="b")
    assert -(-channels // WORD) == words
    assert PAIRED.matches(case.step, case.tensors, Isa.VNNI) == offered


def test_pairs_are_for_cpus_that_count_bits() -> None:
    assert PAIRED is kernels_for(("avx512vpopcntdq",))[0]
    assert PAIRED not in kernels_for(("avx512vbmi",))


@each_level
def test_half_a_pair_is_exact(isa: Isa) -> None:
    """Seven words: the last is paired with none."""
    case = convolution(image=(1, 3, 5, 220), out=17, weights="b", acts="u2", padding=(1, 1, 1, 1))
    check(case, PAIRED, isa)


def test_declines_wide_operands() -> None:
    wide = convolution(image=(1, 8, 8, 16), out=16, weights="b", acts="u4")
    assert not POPCOUNT.matches(wide.step, wide.tensors, Isa.VNNI)


@each_level
@pytest.mark.parametrize(("channels", "acts"), [(300, "b"), (500, "u2")])
def test_carry_save_is_exact_where_taps_are_a_loop(isa: Isa, channels: int, acts: str) -> None:
    case = convolution(
        image=(1, 3, 4, channels), out=17, weights="b", acts=acts, padding=(1, 1, 1, 1)
    )
    check(case, CARRY_SAVE, isa)
