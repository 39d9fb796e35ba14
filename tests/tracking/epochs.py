"""A search's epochs made by hand."""

from __future__ import annotations

from mpqdeploy.search.engine import Epoch


def epoch(number: int = 1, *, round_: int = 0, accuracy: float = 0.5) -> Epoch:
    return Epoch(
        round=round_,
        epoch=number,
        epochs=3,
        seconds=1.5,
        losses={"train_ce": 2.0 / number, "cost": 0.25},
        expected={"latency": 90.0},
        limits={"latency": 80.0},
        violation={"latency": 0.125},
        argmax_cost={"latency": 70.0, "bytes": 1000.0},
        val_accuracy=accuracy,
        max_probability={"conv1": 1.0, "layer1.0.conv1": 0.5},
        entropy={"conv1": 0.0, "layer1.0.conv1": 0.75},
    )
