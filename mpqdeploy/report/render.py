"""Fill the report's template and write it as one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.core.files import write_text
from mpqdeploy.report import plots
from mpqdeploy.report.search_plots import curves, maps
from mpqdeploy.results import Row, Summary
from mpqdeploy.search.engine import Epoch

UNITS = {"latency": "µs", "bytes": "B", "bops": "BOPs"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What the report shows beside the summary.

    `table` is the corrected latency table, `history` the search's epochs, `kernels`
    the compile report's steps, `notes` what was dropped or decided on the way.
    """

    table: CostTable
    history: Sequence[Epoch]
    certificate: Certificate
    kernels: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    machine: Mapping[str, str]
    config: str


def write_report(path: Path, summary: Summary, material: Material) -> None:
    """Write `report.html`: figures, tables and plotly itself, no network needed to read it."""
    from plotly.offline import get_plotlyjs

    write_text(path, render(summary, material, get_plotlyjs()))


def render(summary: Summary, material: Material, plotly: str) -> str:
    """The report's HTML."""
    latency = next((b for b in summary.loop_budgets if b.metric == "latency"), None)
    policy = summary.searched.policy
    costs = (
        {name: material.table.cost(name, policy[name]) for name in material.table.entries}
        if policy
        else {}
    )
    figures = {
        "front": plots.front(summary.rows, summary.budgets, summary.metric),
        "bits": plots.bits(policy, costs) if policy else "",
        "rounds": plots.rounds(summary.rounds, latency),
        "search": [group for group in (curves(material.history), maps(material.history)) if group],
    }
    return page(
        "report.html.j2",
        title=summary.title,
        summary=summary,
        material=material,
        figures=figures,
        verdicts=[verdict(summary.searched, budget) for budget in summary.budgets],
        plotly=plotly,
    )


def page(template: str, **content: object) -> str:
    """A template's HTML; what it names and `content` lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("mpqdeploy", "templates"), autoescape=True, undefined=StrictUndefined
    )
    templates.filters.update(amount=amount, interval=interval)
    return templates.get_template(template).render(**content)


def verdict(row: Row, budget: Budget) -> Mapping[str, Any]:
    """One budget held against the searched network, in words."""
    unit = UNITS[budget.metric]
    limit = amount(budget.limit, unit)
    holds = budget.holds(row.cost(budget.metric))
    if budget.metric == "latency":
        value = f"measured {interval(row)}"
    else:
        value = amount(row.cost(budget.metric), unit)
    return {"metric": budget.metric, "limit": limit, "value": value, "holds": holds}


def amount(value: float, unit: str) -> str:
    """A figure with its unit, scaled for reading."""
    scales = {
        "µs": ((1000.0, "ms"), (1.0, "µs")),
        "B": ((1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B")),
        "BOPs": ((1e9, "GBOPs"), (1e6, "MBOPs"), (1.0, "BOPs")),
    }[unit]
    scale, name = next(((s, n) for s, n in scales if abs(value) >= s), scales[-1])
    return f"{value / scale:.4g} {name}"


def interval(row: Row) -> str:
    """Median and 95% interval of a row's latency."""
    low, high = row.latency.interval_us
    return f"{row.latency.median_us:.1f} µs [{low:.1f}, {high:.1f}]"
