from __future__ import annotations

from dataclasses import replace

from mpqdeploy.tracking.scalars import scalars
from tests.tracking.epochs import epoch


def test_everything_that_tells_a_stalled_search_has_a_tag() -> None:
    assert scalars(epoch(2)) == {
        "loss/train_ce": 1.0,
        "loss/cost": 0.25,
        "cost/latency expected": 90.0,
        "cost/latency argmax": 70.0,
        "cost/latency budget": 80.0,
        "violation/latency": 0.125,
        "accuracy/val": 0.5,
        "time/seconds": 1.5,
        "max_probability/conv1": 1.0,
        "max_probability/layer1.0.conv1": 0.5,
        "entropy/conv1": 0.0,
        "entropy/layer1.0.conv1": 0.75,
        "decided/least max probability": 0.5,
        "decided/mean max probability": 0.75,
        "decided/mean entropy": 0.375,
    }


def test_an_engine_without_probabilities_has_its_costs_and_accuracy() -> None:
    bare = replace(epoch(), losses={}, max_probability={}, entropy={}, limits={})
    assert set(scalars(bare)) == {
        "cost/latency expected",
        "cost/latency argmax",
        "violation/latency",
        "accuracy/val",
        "time/seconds",
    }
