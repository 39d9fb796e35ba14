"""The report's figures, as plotly JSON-free HTML fragments. Pure: data in, markup out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from mpqdeploy.core import Budget, Policy
from mpqdeploy.results import Round, Row

INK, ACCENT, MUTED, WARN = "#1f2a37", "#0b7285", "#98a2b3", "#c2410c"
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    # Dragging zooms and a double click resets: the other buttons would cover the legend.
    "modeBarButtons": [["toImage"]],
}
LAYOUT: Mapping[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
    "height": 380,
    "legend": {"orientation": "h", "y": 1.12, "x": 0},
}


def front(rows: Sequence[Row], budgets: Sequence[Budget], metric: str) -> str:
    """The score against measured latency, intervals as bars, the latency budget as a line."""
    figure = go.Figure()
    for number, row in enumerate(rows):
        low, high = row.latency.interval_us
        median = row.latency.median_us
        searched = row is rows[-1]
        figure.add_scatter(
            x=[median],
            y=[100 * row.accuracy],
            error_x={"array": [high - median], "arrayminus": [median - low]},
            mode="markers+text",
            text=[row.name],
            # Alternating sides keep the names of close neighbours apart.
            textposition=("bottom center", "top center")[number % 2],
            marker={
                "size": 14 if searched else 10,
                "symbol": "star" if searched else "circle",
                "color": ACCENT if searched else MUTED,
            },
            name=f"{row.name} ({row.runtime})",
            showlegend=False,
        )
    for budget in budgets:
        if budget.metric == "latency":
            figure.add_vline(x=budget.limit, line={"color": WARN, "dash": "dash"})
            figure.add_annotation(
                x=math.log10(budget.limit),  # annotations take a logarithmic axis' exponent
                y=1,
                yref="paper",
                text=f"budget {budget.limit:.1f} µs",
                showarrow=False,
                xanchor="left",
                yanchor="bottom",
                font={"color": WARN},
            )
    figure.update_layout(
        **LAYOUT,
        xaxis_title="measured latency (µs, batch 1, logarithmic)",
        yaxis_title=f"{metric} (%)",
    )
    # The float network is often ten times slower: on a linear axis the others would be one spot.
    ends = [end for row in rows for end in row.latency.interval_us]
    figure.update_xaxes(type="log", tickvals=_ticks(min(ends), max(ends)))
    return fragment(figure)


def _ticks(low: float, high: float) -> list[float]:
    """Plain numbers around [low, high] for a logarithmic axis, six to a power of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in (1, 1.5, 2, 3, 5, 7)]
    return [tick for tick in ticks if low / 2 <= tick <= high * 2]


def bits(policy: Policy, costs: Mapping[str, float]) -> str:
    """Weight and activation bits of every site, in execution order, and what each site costs,
    where `costs` says so."""
    names = list(policy.precisions)
    figure = go.Figure()
    weight = [policy[name].weight_bits for name in names]
    act = [policy[name].act_bits for name in names]
    figure.add_bar(x=names, y=weight, name="weight bits", marker_color=ACCENT)
    figure.add_bar(x=names, y=act, name="activation bits", marker_color="#74c0d0")
    figure.update_layout(**LAYOUT, yaxis_title="bits", barmode="group")
    if costs:
        figure.add_scatter(
            x=names,
            y=[costs.get(name) for name in names],
            name="predicted latency (µs)",
            yaxis="y2",
            mode="lines+markers",
            line={"color": WARN, "width": 1.5},
        )
        figure.update_layout(
            yaxis2={
                "title": "µs",
                "overlaying": "y",
                "side": "right",
                "rangemode": "tozero",
                "showgrid": False,
            }
        )
    return fragment(figure)


def rounds(turns: Sequence[Round], budget: Budget | None) -> str:
    """Predicted and measured latency of every round of the loop."""
    labels = [turn.name for turn in turns]
    figure = go.Figure()
    figure.add_bar(
        x=labels, y=[turn.predicted_us for turn in turns], name="predicted", marker_color=MUTED
    )
    medians = [turn.measured.median_us for turn in turns]
    spans = [turn.measured.interval_us for turn in turns]
    figure.add_bar(
        x=labels,
        y=medians,
        name="measured (median, 95% interval)",
        marker_color=ACCENT,
        error_y={
            "array": [high - median for (_, high), median in zip(spans, medians, strict=True)],
            "arrayminus": [median - low for (low, _), median in zip(spans, medians, strict=True)],
        },
    )
    if budget is not None:
        figure.add_hline(y=budget.limit, line={"color": WARN, "dash": "dash"})
    figure.update_layout(**LAYOUT, yaxis_title="latency (µs)", barmode="group")
    return fragment(figure)


def fragment(figure: Any) -> str:
    """A figure as markup that needs plotly on the page."""
    markup: str = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG)
    return markup
