from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.core import ConfigError, Precision, parse_precisions

PRECISIONS = st.builds(Precision, weight_bits=st.integers(1, 8), act_bits=st.integers(1, 8))


@given(PRECISIONS)
def test_a_precision_is_read_as_it_is_written(precision: Precision) -> None:
    assert Precision.parse(str(precision)) == precision
    assert Precision.parse(f" {precision.weight_bits} / {precision.act_bits} ") == precision


@pytest.mark.parametrize("text", ["", "8", "8/", "/8", "a/8", "8/8/8", "-1/8", "4.0/8", "²/8"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a precision"):
        Precision.parse(text)


@pytest.mark.parametrize(("text", "words"), [("9/8", "weight"), ("8/0", "activation")])
def test_a_width_out_of_range_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words} bit width .* out of range") as caught:
        Precision.parse(text)
    assert "1 to 8" in caught.value.hint


@given(st.lists(PRECISIONS))
def test_a_list_is_sorted_widest_first_and_without_duplicates(given: list[Precision]) -> None:
    read = parse_precisions(str(precision) for precision in given)
    assert set(read) == set(given)
    pairs = [(precision.weight_bits, precision.act_bits) for precision in read]
    assert pairs == sorted(set(pairs), reverse=True)
