"""Agreement of executors: a layer's codes on identical inputs, and the predictions end to end.

Two correct executors sum floats in different orders, so a value that lies on a rounding threshold
may fall on either side of it. A loose tolerance would hide real bugs; here a differing code is
excused only as a *flip*: off by one step, where the value before rounding is within float rounding
of the threshold between the two codes [o].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Rounding = Literal["ROUND", "FLOOR", "CEIL", "ROUND_TO_ZERO", "UP", "HALF_UP", "HALF_DOWN"]

FLIP_LIMIT_ULPS = 64.0
"""How far float32 sums of a few thousand terms may drift, in ulps of the layer's largest value."""


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """One layer of one executor against the reference, both on identical inputs.

    `flips` are the differing codes that rounding excuses, `errors` those that it does not.
    `worst_ulps` is the greatest distance of a differing element from its threshold (for a float
    tensor: the greatest difference), in ulps of the largest pre-threshold magnitude of the tensor.
    """

    name: str
    elements: int
    flips: int
    errors: int
    worst_ulps: float

    @property
    def holds(self) -> bool:
        return self.errors == 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerAgreement:
        return cls(**data)


def compare_codes(
    name: str,
    expected: NDArray[Any],
    actual: NDArray[Any],
    prethreshold: NDArray[Any],
    *,
    bipolar: bool = False,
    rounding: Rounding = "ROUND",
    limit_ulps: float = FLIP_LIMIT_ULPS,
) -> LayerAgreement:
    """Compare integer codes; all three arrays have one shape, any layout.

    `prethreshold` is the value that the reference rounded, x / scale + zero point (for bipolar
    codes any positive multiple of x). Raises `ValueError` where shapes differ.
    """
    if not expected.shape == actual.shape == prethreshold.shape:
        raise ValueError(
            f"{name}: shapes {expected.shape}, {actual.shape}, {prethreshold.shape} differ"
        )
    where = np.nonzero(expected != actual)
    before = np.asarray(prethreshold[where], np.float64)
    wanted, got = (np.asarray(codes[where], np.float64) for codes in (expected, actual))
    threshold = np.minimum(wanted, got) + _threshold_offset(bipolar, rounding, wanted + got)
    ulps = np.abs(before - threshold) / _ulp(prethreshold)
    step = 2 if bipolar else 1
    excused = (np.abs(wanted - got) == step) & (ulps <= limit_ulps)
    return LayerAgreement(
        name=name,
        elements=expected.size,
        flips=int(excused.sum()),
        errors=int((~excused).sum()),
        worst_ulps=float(ulps.max(initial=0.0)),
    )


def compare_floats(
    name: str,
    expected: NDArray[Any],
    actual: NDArray[Any],
    *,
    limit_ulps: float = 16 * FLIP_LIMIT_ULPS,
) -> LayerAgreement:
    """Compare a tensor that nothing rounds, such as the logits; no element may leave the limit."""
    if expected.shape != actual.shape:
        raise ValueError(f"{name}: shapes {expected.shape} and {actual.shape} differ")
    difference = np.abs(np.asarray(expected, np.float64) - np.asarray(actual, np.float64))
    ulps = difference / _ulp(expected)
    return LayerAgreement(
        name=name,
        elements=expected.size,
        flips=0,
        # Written so that NaN counts as an error.
        errors=int((~(ulps <= limit_ulps)).sum()),
        worst_ulps=float(np.nan_to_num(ulps, nan=np.inf).max(initial=0.0)),
    )


def _threshold_offset(
    bipolar: bool, rounding: Rounding, code_sum: NDArray[np.float64]
) -> float | NDArray[np.float64]:
    """Threshold minus the lower code."""
    if bipolar:
        return 1.0
    if rounding == "ROUND_TO_ZERO":
        return np.where(code_sum > 0, 1.0, 0.0)
    if rounding == "UP":
        return np.where(code_sum > 0, 0.0, 1.0)
    return {"FLOOR": 1.0, "CEIL": 0.0}.get(rounding, 0.5)


def _ulp(values: NDArray[Any]) -> float:
    largest = np.abs(values).max(initial=0.0)
    return float(np.spacing(np.float32(max(largest, np.finfo(np.float32).tiny))))


@dataclass(frozen=True, kw_only=True)
class PredictionAgreement:
    """Top-1 agreement of two executors over a data set, each running freely from its own codes."""

    first: str
    second: str
    samples: int
    agreeing: int

    @property
    def rate(self) -> float:
        return self.agreeing / self.samples if self.samples else 1.0


def compare_predictions(
    logits: Mapping[str, NDArray[Any]],
) -> tuple[PredictionAgreement, ...]:
    """Every pair of executors; `logits[executor]` has shape `[N, classes]`."""
    top = {name: np.argmax(values, axis=1) for name, values in logits.items()}
    names = list(top)
    return tuple(
        PredictionAgreement(
            first=first,
            second=second,
            samples=len(top[first]),
            agreeing=int((top[first] == top[second]).sum()),
        )
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was compared and how it came out.

    `layers[executor]` are that executor's layers against `reference` on identical inputs;
    `predictions` are the pairs end to end. A deep network multiplies a flip, so the pairs need not
    agree everywhere: `least_rate` is what they must reach.
    """

    reference: str
    samples: int
    layers: Mapping[str, tuple[LayerAgreement, ...]]
    predictions: tuple[PredictionAgreement, ...] = ()
    least_rate: float = 0.99

    @property
    def holds(self) -> bool:
        layers = all(layer.holds for found in self.layers.values() for layer in found)
        return layers and all(pair.rate >= self.least_rate for pair in self.predictions)

    def failures(self) -> Sequence[str]:
        """One line for every layer and pair that does not hold."""
        lines = [
            f"{executor}: {layer.name}: {layer.errors} of {layer.elements} codes differ, "
            f"up to {layer.worst_ulps:.0f} ulps from a threshold"
            for executor, layers in self.layers.items()
            for layer in layers
            if not layer.holds
        ]
        lines += [
            f"{pair.first} and {pair.second} agree on {pair.agreeing} of {pair.samples} predictions"
            for pair in self.predictions
            if pair.rate < self.least_rate
        ]
        return lines

    def flips(self, executor: str) -> int:
        return sum(layer.flips for layer in self.layers[executor])

    def with_layers(self, executor: str, layers: Iterable[LayerAgreement]) -> Certificate:
        """This certificate with one more executor, for a check that runs elsewhere."""
        known = {**self.layers, executor: tuple(layers)}
        return Certificate(**{**vars(self), "layers": known})

    def to_json(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "reference": self.reference,
            "samples": self.samples,
            "least_rate": self.least_rate,
            "layers": {
                executor: [asdict(layer) for layer in layers]
                for executor, layers in self.layers.items()
            },
            "predictions": [asdict(pair) for pair in self.predictions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certificate:
        layers = {
            executor: tuple(LayerAgreement.from_json(layer) for layer in found)
            for executor, found in data["layers"].items()
        }
        return cls(
            reference=data["reference"],
            samples=data["samples"],
            least_rate=data["least_rate"],
            layers=layers,
            predictions=tuple(PredictionAgreement(**pair) for pair in data["predictions"]),
        )
