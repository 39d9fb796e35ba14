from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from mpqdeploy.report.search_plots import curves, maps
from tests.tracking.epochs import epoch


def traces(markup: str) -> list[dict[str, Any]]:
    """The data of a figure, read back out of its markup."""
    start = re.search(r'Plotly\.newPlot\(\s*"[^"]+",\s*', markup)
    assert start is not None
    found, _ = json.JSONDecoder().raw_decode(markup[start.end() :])
    return list(found)


def by_caption(history: list[Any]) -> dict[str, list[dict[str, Any]]]:
    return {caption: traces(markup) for caption, markup in [*curves(history), *maps(history)]}


def test_costs_are_beside_the_budget_that_was_searched_with() -> None:
    tighter = replace(epoch(1, round_=1), limits={"latency": 75.0})
    cost = by_caption([epoch(1), epoch(2), tighter])["Latency against its budget."]
    assert {trace["name"]: trace["y"] for trace in cost} == {
        "expected": [90.0, 90.0, 90.0],
        "argmax network": [70.0, 70.0, 70.0],
        "budget": [80.0, 80.0, 75.0],
    }


def test_violation_score_and_losses_are_drawn() -> None:
    figures = by_caption([epoch(1), epoch(2, accuracy=0.75)])
    (violation,) = figures["By how much the expected cost lay over its budget."]
    assert violation["y"] == [12.5, 12.5]
    (score,) = figures["Score on the validation split."]
    assert score["y"] == [50.0, 75.0]
    losses = figures["Terms of the losses, means over each epoch."]
    assert {t["name"]: t["y"] for t in losses} == {
        "weights: loss": [2.0, 1.0],
        "logits: cost term": [0.25, 0.25],
    }


def test_a_search_that_never_left_its_budget_says_so() -> None:
    inside = replace(epoch(), violation={"latency": 0.0})
    captions = [caption for caption, _ in curves([inside, inside])]
    assert "By how much the expected cost lay over its budget: never." in captions


def test_heat_maps_have_a_row_for_every_layer_with_a_choice() -> None:
    figures = by_caption([epoch(1), epoch(2)])
    (chances,) = figures["Greatest probability per layer; dark is decided."]
    assert chances["y"] == ["layer1.0.conv1"]
    assert chances["z"] == [[0.5, 0.5]]
    (entropy,) = figures["Entropy per layer in nats; dark is decided."]
    assert entropy["z"] == [[0.75, 0.75]]


def test_rounds_are_divided_by_a_line() -> None:
    one, two = (
        dict(curves(history))["Score on the validation split."]
        for history in ([epoch(1), epoch(2)], [epoch(1), epoch(1, round_=1)])
    )
    assert '"shapes"' not in one
    assert '"x0":1.5,"x1":1.5' in two


@pytest.mark.parametrize(
    "bare", [replace(epoch(), losses={}, max_probability={}, entropy={}, limits={})]
)
def test_engines_that_train_nothing_have_costs_and_scores(bare: Any) -> None:
    captions = [caption for caption, _ in curves([bare, bare])]
    assert maps([bare, bare]) == []
    assert captions == [
        "Latency against its budget.",
        "By how much the expected cost lay over its budget.",
        "Score on the validation split.",
    ]
    assert curves([]) == maps([]) == []
