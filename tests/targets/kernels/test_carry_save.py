"""Carry-save counting on plain integers, which is the whole of its arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.popcount import CARRY_SAVE
from mpqdeploy.targets.kernels.popcount.counter import Counter
from tests.targets.kernels.convolutions import convolution

BITS = 32
Words = st.integers(0, 2**BITS - 1)


class Integers:
    """The adder that `Counter` is defined by."""

    def full(self, a: int, b: int, c: int) -> tuple[int, int]:
        return a ^ b ^ c, a & b | c & (a | b)

    def half(self, a: int, b: int) -> tuple[int, int]:
        return a ^ b, a & b

    def pair(self, c: int, first: int, both: tuple[int, int]) -> tuple[int, int]:
        return self.full(c, first, first ^ both[0] ^ both[1])

    def start(self, first: int, both: tuple[int, int]) -> tuple[int, int]:
        return self.half(first, first ^ both[0] ^ both[1])


def total(digits: dict[int, int]) -> int:
    return sum(digit.bit_count() << level for level, digit in digits.items())


@given(st.lists(st.tuples(st.integers(0, 3), Words), max_size=40))
def test_digits_count_every_set_bit_once(words: list[tuple[int, int]]) -> None:
    counter = Counter(Integers())
    for level, word in words:
        counter.add(level, word)
    assert total(counter.digits()) == sum(word.bit_count() << level for level, word in words)


@given(st.lists(st.tuples(st.booleans(), Words, Words), max_size=40))
def test_pairs_and_single_words_mix(words: list[tuple[bool, int, int]]) -> None:
    counter = Counter(Integers())
    expected = 0
    for paired, first, second in words:
        expected += first.bit_count()
        if paired:
            expected += second.bit_count()
            counter.add_pair(0, first, (first, second))
        else:
            counter.add(0, first)
    assert total(counter.digits()) == expected


@given(st.lists(Words, min_size=1, max_size=70))
def test_levels_are_no_more_than_the_count_needs(words: list[int]) -> None:
    """A kernel keeps so many; what a counter adds beyond is 0."""
    counter = Counter(Integers())
    for word in words:
        counter.add(0, word)
    levels = len(words).bit_length()
    assert not any(digit for level, digit in counter.digits().items() if level >= levels)


@pytest.mark.parametrize(("weights", "acts"), [("s2", "b"), ("u1", "u1"), ("b", "u4")])
def test_declines_what_it_does_not_count(weights: str, acts: str) -> None:
    case = convolution(image=(1, 8, 8, 64), out=16, weights=weights, acts=acts)
    assert not CARRY_SAVE.matches(case.step, case.tensors, Isa.VNNI)


def test_declines_half_empty_words() -> None:
    case = convolution(image=(1, 8, 8, 16), out=16, weights="b", acts="b")
    assert not CARRY_SAVE.matches(case.step, case.tensors, Isa.VNNI)


def test_the_default_schedule_is_unrolled_whole_where_one_is() -> None:
    columns = {
        channels: CARRY_SAVE.schedules(case.step, case.tensors, Isa.VNNI)[0]["columns"]
        for channels in (64, 256, 512)
        for case in [
            convolution(
                image=(1, 9, 9, channels), out=16, weights="b", acts="u1", padding=(1, 1, 1, 1)
            )
        ]
    }
    assert columns == {64: 4, 256: 2, 512: 1}
