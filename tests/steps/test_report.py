from __future__ import annotations

import math
from typing import Any

from mpqdeploy.steps.report import series


def epoch(accuracy: float, **given: dict[str, float]) -> dict[str, Any]:
    empty: dict[str, dict[str, float]] = {"losses": {}, "violation": {}}
    decided: dict[str, dict[str, float]] = {"max_probability": {}, "entropy": {}}
    return {"val_accuracy": accuracy, **empty, **decided, **given}


def test_no_history_no_curves() -> None:
    assert series([]) == {}


def test_curves_by_plot_and_quantity() -> None:
    history = [
        epoch(
            0.5,
            losses={"weights": 2.0},
            max_probability={"a": 0.4, "b": 0.8},
            entropy={"a": 1.0, "b": 0.5},
        ),
        epoch(
            0.6,
            losses={"weights": 1.0, "barrier": 0.1},
            max_probability={"a": 0.9, "b": 1.0},
            entropy={"a": 0.3, "b": 0.0},
        ),
    ]
    found = series(history)
    assert found["loss"]["weights"] == [2.0, 1.0]
    # A loss that begins later has a gap before, so that epochs stay in their place.
    first, second = found["loss"]["barrier"]
    assert math.isnan(first)
    assert second == 0.1
    assert found["validation accuracy"] == {"accuracy": [0.5, 0.6]}
    decided = found["how decided the sites are"]
    assert decided["least max probability"] == [0.4, 0.9]
    assert decided["mean max probability"] == [0.6000000000000001, 0.95]
    assert decided["mean entropy (nats)"] == [0.75, 0.15]
    assert "violation (share of the budget)" not in found  # nothing was budgeted


def test_engines_without_probabilities_have_no_such_plot() -> None:
    assert set(series([epoch(0.5, losses={"weights": 2.0})])) == {"loss", "validation accuracy"}
