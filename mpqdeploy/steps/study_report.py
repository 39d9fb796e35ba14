"""Report of a study: what its trials and its finished front look like, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from mpqdeploy.core import Budget
from mpqdeploy.report.study_page import StudyMaterial, write_study_page
from mpqdeploy.results import Summary
from mpqdeploy.search.bomp import Space, Trial
from mpqdeploy.steps.context import WIDEST, Context
from mpqdeploy.steps.draft import Reference
from mpqdeploy.steps.report import machine_of

REPORT = "report.html"


def study_report(
    context: Context,
    space: Space,
    against: Reference,
    budgets: tuple[Budget, ...],
    trials: Sequence[Trial],
    summary: Summary | None = None,
    tested: Mapping[int, float] | None = None,
) -> None:
    """Write `report.html` of a study that runs, or of a run that is done.

    `tested`: accuracy on the test set by number of the trials trained in full.
    """
    bomp = context.config.search.bomp
    material = StudyMaterial(
        title=f"{context.spec.name} on {context.dataset.name}",
        metric=bomp.front,
        ceiling=_ceiling(context, against, budgets),
        wanted=bomp.trials,
        budgets=budgets,
        space=space,
        trials=trials,
        summary=summary,
        tested=tested or {},
        machine=machine_of(context),
        config=yaml.safe_dump(context.config.snapshot(), sort_keys=False),
    )
    write_study_page(context.folder.path / REPORT, material)


def _ceiling(context: Context, against: Reference, budgets: Sequence[Budget]) -> float:
    """The cost up to which the front's volume counts: the budget, or the reference's own.

    Both are known before the first trial, so that volumes of different studies can be compared.
    """
    metric = context.config.search.bomp.front
    limit = next((budget.limit for budget in budgets if budget.metric == metric), None)
    if limit is not None:
        return limit
    if metric == "latency":
        return against.record.median_us
    return context.counted[metric].of(context.uniform(WIDEST))
