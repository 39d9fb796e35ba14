"""Every claim's figure is an SVG that shows what its records say, and the same one every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from searching import plots
from searching.setting import METRICS

HITS = [
    {
        "metric": metric,
        "room": room,
        "bpnas": {"used": 0.9},
        "penalty": {"used": 0.8, "searches": 5},
    }
    for metric in METRICS
    for room in (0.25, 0.75)
]
ABLATION = [
    {
        "parts": dict(zip(("barrier", "prob1", "reshape"), parts, strict=True)),
        "moves": 2 - sum(parts[:2]),
        "test_accuracy": 0.9,
    }
    for parts in product((True, False), repeat=3)
]
FRONT = [
    {
        "name": f"{method}-4/4",
        "method": method,
        "test_accuracy": 0.9,
        "of_wide": (1.0, 0.9, 1.1),
        "bops": 4e8,
    }
    for method in ("uniform", "bops", "latency", "program")
]


@pytest.mark.parametrize(
    ("plot", "records", "words"),
    [
        (plots.hits, HITS, ["measured latency", "BP-NAS, one search", "over the budget"]),
        (plots.ablation, ABLATION, ["barrier", "none", "test accuracy (%)"]),
        (plots.front, FRONT, ["BP-NAS under latency", "uniform", "GBOPs (logarithmic)"]),
    ],
)
def test_a_figure(
    plot: Callable[[Sequence[Any], Path], None],
    records: Sequence[Any],
    words: Sequence[str],
    tmp_path: Path,
) -> None:
    plot(records, tmp_path / "one.svg")
    plot(records, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert all(f"<!-- {word} -->" in text for word in words)
    assert text == (tmp_path / "two.svg").read_text()
