"""The report of a study: one HTML file, the same while it runs and when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpqdeploy.core import Budget, Metric, Policy
from mpqdeploy.core.files import write_text
from mpqdeploy.report import plots
from mpqdeploy.report.importance import importances
from mpqdeploy.report.render import UNITS, amount, page, verdict
from mpqdeploy.report.study_plots import hypervolume_plot, importance_plot, study_front
from mpqdeploy.results import Summary
from mpqdeploy.search.bomp import Space, Trial
from mpqdeploy.search.bomp.finding import front_of, nearest_of, overrun


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyMaterial:
    """What the report shows. `summary` is there once the front has been trained in full.

    `metric` is the cost of the front, `ceiling` how much of it counts as a volume. `wanted`: how
    many trials there will be. `tested`: accuracy on the test set by trial number.
    """

    title: str
    metric: Metric
    ceiling: float
    wanted: int
    budgets: tuple[Budget, ...]
    space: Space
    trials: Sequence[Trial]
    summary: Summary | None
    tested: Mapping[int, float]
    machine: Mapping[str, str]
    config: str


def write_study_page(path: Path, material: StudyMaterial) -> None:
    """Write `report.html`; a reader finds the old one or the new one, whole."""
    from plotly.offline import get_plotlyjs

    write_text(path, render_study(material, get_plotlyjs()))


def render_study(material: StudyMaterial, plotly: str) -> str:
    """The page's HTML."""
    trials, metric, summary = material.trials, material.metric, material.summary
    front = front_of(trials, metric)
    shares = importances(trials, material.space)
    figures = {
        "front": study_front(trials, front, material.tested, material.budgets, metric),
        "hypervolume": hypervolume_plot(trials, metric, material.ceiling),
        "importances": importance_plot(shares) if shares else "",
        "bits": [(f"trial {trial.number}", _bits(trial)) for trial in front],
    }
    return page(
        "study.html.j2",
        title=material.title,
        material=material,
        summary=summary,
        front=front,
        figures=figures,
        finished=sum(trial.state != "running" for trial in trials),
        nearest=None if front else nearest_of(trials),
        overrun=overrun,
        ceiling=amount(material.ceiling, UNITS[metric]),
        units=UNITS,
        verdicts=_verdicts(summary),
        plotly=plotly,
    )


def _verdicts(summary: Summary | None) -> list[Mapping[str, Any]]:
    if summary is None:
        return []
    return [verdict(summary.searched, budget) for budget in summary.budgets]


def _bits(trial: Trial) -> str:
    details = trial.outcome.details if trial.outcome else {}
    return plots.bits(Policy.from_json(details["policy"]), {}) if "policy" in details else ""
