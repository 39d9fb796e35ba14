from __future__ import annotations

import json

import numpy as np
import pytest

from mpqdeploy.core.agreement import (
    Certificate,
    LayerAgreement,
    Rounding,
    compare_codes,
    compare_floats,
    compare_predictions,
)


def test_equal_codes_hold() -> None:
    before = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    codes = np.round(before)
    layer = compare_codes("a", codes, codes, before)
    assert layer == LayerAgreement(name="a", elements=24, flips=0, errors=0, worst_ulps=0.0)
    assert layer.holds


@pytest.mark.parametrize(("rounding", "threshold"), [("ROUND", 2.5), ("FLOOR", 3.0), ("CEIL", 2.0)])
def test_flip_at_the_threshold_is_excused(rounding: Rounding, threshold: float) -> None:
    near = np.float32(threshold) + np.float32(3e-6)
    before = np.array([near, 10.0], np.float32)
    expected, actual = np.array([3, 10]), np.array([2, 10])
    layer = compare_codes("a", expected, actual, before, rounding=rounding)
    assert (layer.flips, layer.errors) == (1, 0)
    assert 0 < layer.worst_ulps < 10


def test_difference_away_from_the_threshold_is_an_error() -> None:
    before = np.array([2.6, 10.0], np.float32)
    layer = compare_codes("a", np.array([3, 10]), np.array([2, 10]), before)
    assert (layer.flips, layer.errors) == (0, 1)
    assert not layer.holds


def test_two_steps_are_an_error_even_at_a_threshold() -> None:
    before = np.array([2.5], np.float32)
    layer = compare_codes("a", np.array([3]), np.array([1]), before)
    assert layer.errors == 1


def test_bipolar_threshold_is_zero() -> None:
    before = np.array([1e-7, 0.5, -2.0], np.float32)
    expected = np.array([1, 1, -1])
    flipped = compare_codes("a", expected, np.array([-1, 1, -1]), before, bipolar=True)
    assert (flipped.flips, flipped.errors) == (1, 0)
    wrong = compare_codes("a", expected, np.array([1, -1, -1]), before, bipolar=True)
    assert (wrong.flips, wrong.errors) == (0, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_to_zero_has_its_thresholds_at_whole_numbers(sign: int) -> None:
    before = np.array([sign * (3 - 1e-6)], np.float32)
    layer = compare_codes(
        "a", np.array([sign * 2]), np.array([sign * 3]), before, rounding="ROUND_TO_ZERO"
    )
    assert (layer.flips, layer.errors) == (1, 0)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="a: shapes"):
        compare_codes("a", np.zeros(3), np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="a: shapes"):
        compare_floats("a", np.zeros(3), np.zeros((3, 1)))


def test_floats_within_rounding_and_not() -> None:
    expected = np.array([1.0, 100.0], np.float32)
    assert compare_floats("a", expected, expected * np.float32(1 + 1e-6)).holds
    assert compare_floats("a", expected, expected + np.float32(0.1)).errors == 2
    assert compare_floats("a", expected, np.array([1.0, np.nan], np.float32)).errors == 1


def test_empty_tensors_hold() -> None:
    empty = np.zeros((0, 3))
    assert compare_codes("a", empty, empty, empty).holds
    assert compare_floats("a", empty, empty).holds


def _certificate(errors: int = 0, agreeing: int = 100) -> Certificate:
    logits = {"qonnx": np.eye(100), "torch": np.roll(np.eye(100), 1, axis=1)}
    logits["torch"][:agreeing] = logits["qonnx"][:agreeing]
    layer = LayerAgreement(name="conv", elements=9, flips=1, errors=errors, worst_ulps=2.5)
    return Certificate(
        reference="qonnx",
        samples=4,
        layers={"torch": (layer,)},
        predictions=compare_predictions(logits),
    )


def test_certificate_holds_and_says_why_not() -> None:
    assert _certificate().holds
    assert _certificate().flips("torch") == 1
    assert not _certificate().failures()
    assert "conv: 2 of 9 codes differ" in _certificate(errors=2).failures()[0]
    unequal = _certificate(agreeing=98)
    assert not unequal.holds
    assert unequal.failures() == ["qonnx and torch agree on 98 of 100 predictions"]


def test_certificate_round_trip_and_more_layers() -> None:
    certificate = _certificate()
    text = json.dumps(certificate.to_json())
    assert Certificate.from_json(json.loads(text)) == certificate
    bad = LayerAgreement(name="x", elements=1, flips=0, errors=1, worst_ulps=9e9)
    more = certificate.with_layers("compiled", [bad])
    assert set(more.layers) == {"torch", "compiled"}
    assert not more.holds
