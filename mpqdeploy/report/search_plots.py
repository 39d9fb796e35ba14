"""What a search showed of itself, epoch by epoch, as figures. Pure: epochs in, markup out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from mpqdeploy.report.plots import ACCENT, INK, LAYOUT, MUTED, WARN, fragment
from mpqdeploy.search.engine import Epoch

Figure = tuple[str, str]
"""Caption and markup."""

HEIGHT = 300
COMPACT = {
    "font": {**LAYOUT["font"], "size": 12},
    "margin": {"l": 55, "r": 10, "t": 40, "b": 40},
    # Above the plot, however many lines it takes.
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
}
ROW = 20
"""Pixels per layer of a heat map."""
DARK, PALE = ([[0.0, low], [1.0, high]] for low, high in (("#f1f7f8", ACCENT), (ACCENT, "#f1f7f8")))
"""Colours of a heat map: the greatest value is dark, or it is pale."""
LOSSES = {
    "train_ce": "weights: loss",
    "search_ce": "logits: loss",
    "cost": "logits: cost term",
    "prob1": "logits: Prob-1",
    "prob1_weight": "λ of Prob-1",
}
"""What the loss terms of the supernet search are called."""
AXES = {"latency": "latency (µs)", "bytes": "weights (bytes)", "bops": "BOPs"}


def curves(history: Sequence[Epoch]) -> list[Figure]:
    """Costs, violation, score and losses, as far as the epochs have them."""
    if not history:
        return []
    figures = [_costs(history, metric) for metric in history[-1].expected]
    if figures:
        figures.append(_violation(history))
    figures.append(_score(history))
    if any(epoch.losses for epoch in history):
        figures.append(_losses(history))
    return figures


def maps(history: Sequence[Epoch]) -> list[Figure]:
    """How decided every layer is, epoch by epoch; none for engines without probabilities."""
    sites = _open_sites(history)
    if not sites:
        return []
    chances = {s: [epoch.max_probability[s] for epoch in history] for s in sites}
    entropies = {s: [epoch.entropy[s] for epoch in history] for s in sites}
    most = max(max(values) for values in entropies.values())
    return [
        ("Greatest probability per layer; dark is decided.", _heat(history, chances, 1.0, DARK)),
        ("Entropy per layer in nats; dark is decided.", _heat(history, entropies, most, PALE)),
    ]


def _costs(history: Sequence[Epoch], metric: str) -> Figure:
    figure = go.Figure()
    expected = [epoch.expected[metric] for epoch in history]
    argmax = [epoch.argmax_cost[metric] for epoch in history]
    _line(figure, "expected", expected, color=ACCENT)
    _line(figure, "argmax network", argmax, color=MUTED)
    if all(metric in epoch.limits for epoch in history):
        limits = [epoch.limits[metric] for epoch in history]
        _line(figure, "budget", limits, "lines", color=WARN, dash="dash", shape="hvh")
    caption = f"{metric.capitalize()} against its budget."
    return caption, _drawn(figure, history, AXES.get(metric, metric))


def _violation(history: Sequence[Epoch]) -> Figure:
    figure = go.Figure()
    for color, metric in zip((WARN, INK, MUTED), history[-1].violation, strict=False):
        _line(figure, metric, [100 * epoch.violation[metric] for epoch in history], color=color)
    ever = any(value > 0 for epoch in history for value in epoch.violation.values())
    figure.update_layout(showlegend=True)
    figure.update_yaxes(**({"rangemode": "tozero"} if ever else {"range": [0, 1]}))
    caption = f"By how much the expected cost lay over its budget{'' if ever else ': never'}."
    return caption, _drawn(figure, history, "violation (% of the budget)")


def _score(history: Sequence[Epoch]) -> Figure:
    figure = go.Figure()
    _line(figure, "validation", [100 * epoch.val_accuracy for epoch in history], color=ACCENT)
    return "Score on the validation split.", _drawn(figure, history, "validation score (%)")


def _losses(history: Sequence[Epoch]) -> Figure:
    figure = go.Figure()
    names = dict.fromkeys(name for epoch in history for name in epoch.losses)
    for name in names:
        values = [epoch.losses.get(name, float("nan")) for epoch in history]
        _line(figure, LOSSES.get(name, name), values)
    return "Terms of the losses, means over each epoch.", _drawn(figure, history, "loss")


def _open_sites(history: Sequence[Epoch]) -> list[str]:
    """Those that have a choice: pinned ones are one-hot from the start."""
    if not history or not all(epoch.max_probability for epoch in history):
        return []
    return [
        site
        for site in history[0].max_probability
        if any(epoch.max_probability[site] < 1.0 for epoch in history)
    ]


def _heat(
    history: Sequence[Epoch],
    rows: Mapping[str, Sequence[float]],
    greatest: float,
    scale: list[list[Any]],
) -> str:
    """One row a layer in execution order from the top, one column an epoch."""
    figure = go.Figure(
        go.Heatmap(
            z=list(rows.values()),
            x=list(range(1, len(history) + 1)),
            y=list(rows),
            zmin=0.0,
            zmax=greatest,
            colorscale=scale,
            xgap=1,
            ygap=1,
            hovertemplate="%{y}, epoch %{x}: %{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return _drawn(figure, history, "", height=max(HEIGHT, 110 + ROW * len(rows)))


def _line(
    figure: Any, name: str, values: Sequence[float], mode: str = "lines+markers", **style: Any
) -> None:
    figure.add_scatter(
        x=list(range(1, len(values) + 1)),
        y=list(values),
        name=name,
        mode=mode,
        marker={"size": 5},
        line=style,
    )


def _drawn(figure: Any, history: Sequence[Epoch], title: str, *, height: int = HEIGHT) -> str:
    """With the epochs as axis and a dotted line wherever a round begins."""
    given = {**LAYOUT, **COMPACT, "height": height}
    figure.update_layout(**given, xaxis_title="epoch", yaxis_title=title)
    ticks = "linear" if len(history) <= 12 else "auto"
    figure.update_xaxes(tickmode=ticks, tick0=1, dtick=1, range=[0.5, len(history) + 0.5])
    for number, (one, two) in enumerate(pairwise(history), 1):
        if one.round != two.round:
            figure.add_vline(x=number + 0.5, line={"color": MUTED, "dash": "dot", "width": 1})
    return fragment(figure)
