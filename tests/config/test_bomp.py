"""The sections of bomp-nas."""

from __future__ import annotations

from typing import Any

import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import ConfigError


def config(**bomp: Any) -> Config:
    values = {
        "model": {"name": "mobile_digits"},
        "data": {"name": "digits"},
        "search": {"engine": "bomp-nas", "bomp": bomp},
    }
    return Config.read(values, "test")


def test_the_settings_of_a_study() -> None:
    settings = config(trials=7, sampler="random").search.bomp.settings(3)
    assert (settings.trials, settings.engine, settings.seed) == (7, "random", 3)
    assert settings.metric is None
    front = config(objective="front", front="bytes").search.bomp.settings(0)
    assert front.metric == "bytes"


def test_a_score_is_of_the_fronts_cost() -> None:
    wanted = config(objective="score", front="bytes", cost_reference=1e5, cost_weight=0.5)
    score = wanted.search.bomp.settings(0).score
    assert score is not None
    assert (score.metric, score.cost_reference, score.weight) == ("bytes", 1e5, 0.5)


def test_choices_are_brought_into_order() -> None:
    choices = config(space={"kernels": [5, 3], "widths": [1, 0.5]}).search.bomp.space.choices()
    assert choices.kernels == (3, 5)
    assert choices.widths == (0.5, 1.0)


@pytest.mark.parametrize(
    ("bomp", "message"),
    [
        ({"objective": "score"}, "cost_reference"),
        ({"space": {"kernels": [4]}}, r"search\.bomp\.space\.kernels"),
        ({"space": {"repeats": [-1]}}, r"search\.bomp\.space\.repeats"),
        ({"space": {"widths": []}}, "is empty or has a value twice"),
        ({"space": {"width": [1]}}, r"unknown key search\.bomp\.space\.width"),
        ({"trials": 0}, r"search\.bomp\.trials"),
        ({"objective": "accuracy"}, "budget"),
    ],
)
def test_what_cannot_be_is_named(bomp: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**bomp)
