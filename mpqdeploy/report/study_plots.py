"""A study's figures: trials in, markup out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from mpqdeploy.core import Budget
from mpqdeploy.report.plots import ACCENT, INK, LAYOUT, MUTED, WARN, fragment
from mpqdeploy.report.search_plots import AXES
from mpqdeploy.search.bomp import Outcome, Trial
from mpqdeploy.search.bomp.front import hypervolume_curve

MOST_BARS = 20


def study_front(
    trials: Sequence[Trial],
    front: Sequence[Trial],
    tested: Mapping[int, float],
    budgets: Sequence[Budget],
    metric: str,
) -> str:
    """Accuracy against cost: trials inside and outside the budgets, and the front.

    `tested`: accuracy on the test set of the trials that were trained in full. They are drawn at
    their trials' latency, because the last measurement has another clock than the budget's line.
    """
    figure = go.Figure()
    inside = [trial for trial in trials if trial.feasible]
    outside = [trial for trial in trials if trial.state == "complete" and not trial.feasible]
    _trials(figure, "over a budget", outside, metric, {"symbol": "x", "color": WARN, "size": 8})
    _trials(figure, "inside", inside, metric, {"color": MUTED, "size": 9})
    line = [(o.costs[metric], 100 * o.accuracy) for o in _outcomes(front)]
    figure.add_scatter(
        x=[cost for cost, _ in line],
        y=[accuracy for _, accuracy in line],
        mode="lines",
        line={"color": ACCENT, "shape": "hv"},
        name="front",
    )
    full = [trial for trial in trials if trial.number in tested]
    if full:
        figure.add_scatter(
            x=[outcome.costs[metric] for outcome in _outcomes(full)],
            y=[100 * tested[trial.number] for trial in full],
            mode="markers+text",
            text=[f"trial {trial.number}" for trial in full],
            textposition="top center",
            marker={"symbol": "star", "size": 13, "color": ACCENT},
            name="trained in full, test set",
        )
    for budget in budgets:
        if budget.metric == metric:
            figure.add_vline(x=budget.limit, line={"color": WARN, "dash": "dash"})
    axis = {"xaxis_title": AXES.get(metric, metric), "yaxis_title": "accuracy, validation (%)"}
    figure.update_layout(**LAYOUT, **axis)
    return fragment(figure)


def hypervolume_plot(trials: Sequence[Trial], metric: str, ceiling: float) -> str:
    """The area under the front, below `ceiling` of the cost, as a share of all there is."""
    pairs = [
        (trial.outcome.accuracy, trial.outcome.costs[metric])
        if trial.feasible and trial.outcome is not None
        else None
        for trial in trials
    ]
    curve = hypervolume_curve(pairs, (0.0, ceiling))
    figure = go.Figure()
    figure.add_scatter(
        x=[trial.number for trial in trials],
        y=[100 * volume / ceiling for volume in curve],
        mode="lines",
        line={"color": ACCENT, "shape": "hv"},
    )
    figure.update_layout(**LAYOUT, xaxis_title="trial", yaxis_title="hypervolume (%)")
    return fragment(figure)


def importance_plot(shares: Mapping[str, float]) -> str:
    """The greatest shares of the variance of accuracy, the greatest on top."""
    shown = list(shares.items())[:MOST_BARS]
    figure = go.Figure()
    figure.add_bar(
        x=[100 * share for _, share in shown],
        y=[name for name, _ in shown],
        orientation="h",
        marker_color=INK,
    )
    figure.update_layout(
        **{**LAYOUT, "height": 120 + 20 * len(shown)}, xaxis_title="share of the variance (%)"
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return fragment(figure)


def _trials(
    figure: go.Figure,
    name: str,
    trials: Sequence[Trial],
    metric: str,
    marker: Mapping[str, object],
) -> None:
    outcomes = _outcomes(trials)
    figure.add_scatter(
        x=[outcome.costs[metric] for outcome in outcomes],
        y=[100 * outcome.accuracy for outcome in outcomes],
        mode="markers",
        marker=dict(marker),
        text=[f"trial {trial.number}" for trial in trials],
        name=name,
    )


def _outcomes(trials: Sequence[Trial]) -> list[Outcome]:
    return [trial.outcome for trial in trials if trial.outcome is not None]
