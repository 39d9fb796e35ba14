"""What a run shows on the terminal: the plan, the table, the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.core import Budget, Policy
from mpqdeploy.report.render import amount, interval, verdict
from mpqdeploy.results import Summary
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.ui import Ui


def print_plan(context: Context, until: str | None) -> None:
    """What a run would do, and what it would do it with."""
    config, ui = context.config, context.ui
    train = config.train.epochs
    start = f"checkpoint {config.model.checkpoint}" if config.model.checkpoint else "from scratch"
    plan = [
        f"profile {len(context.sites)} sites at {', '.join(map(str, context.precisions))}"
        f" on {context.target.name} ({context.target.isa})",
        "anchors: compile and time the uniform 8/8 and the cheapest network",
        f"float network: {start}, {train} epochs of training",
        f"search: {config.search.engine}, {config.search.epochs} epochs, at most"
        f" {config.refit.rounds} rounds of measuring and refitting",
        f"fine-tune {config.finetune.epochs} epochs; export, compile, verify, measure",
        f"baselines: uniform {', '.join(config.baselines)}; onnxruntime float32 and int8",
        f"ship {config.run_dir / 'bundle'} and {config.run_dir / 'report.html'}",
    ]
    stops = {"profile": 1, "search": 4}
    shown = plan[: stops.get(until or "", len(plan))]
    budgets = [f"{section.metric} at most {section.limit}" for section in config.budgets]
    ui.say(f"{context.spec.name} on {context.dataset.name}; {'; '.join(budgets)}")
    for number, line in enumerate(shown, 1):
        ui.say(f"{number}. {line}")
    ui.result({"plan": shown, "budgets": budgets, "sites": [site.name for site in context.sites]})


def print_search(context: Context, searched: Done, budgets: Sequence[Budget]) -> None:
    """The policy that a search ended with."""
    policy = Policy.from_json(searched.result["policy"])
    rows = [[name, str(precision)] for name, precision in policy.precisions.items()]
    context.ui.table("searched policy", ["site", "W/A"], rows)
    inside = "inside" if searched.result["inside"] else "outside"
    limits = ", ".join(f"{b.metric} at most {b.limit:.6g}" for b in budgets)
    context.ui.say(f"its draft, as measured, is {inside} the budgets ({limits})")
    context.ui.result(
        {"policy": policy.to_json(), "inside": searched.result["inside"], "budgets": limits}
    )


def print_summary(ui: Ui, summary: Summary) -> None:
    """The last table: every network beside the others, then the verdict and where things are."""
    rows = [
        [
            row.name,
            row.runtime,
            f"{100 * row.accuracy:.2f} %",
            interval(row),
            amount(row.bytes, "B"),
            "yes" if row.inside(summary.budgets) else "no",
        ]
        for row in summary.rows
    ]
    columns = [
        "network",
        "runs in",
        summary.metric,
        "latency [95% interval]",
        "weights",
        "in budget",
    ]
    ui.table(summary.title, columns, rows)
    for budget in summary.budgets:
        found = verdict(summary.searched, budget)
        state = "met" if found["holds"] else "MISSED"
        ui.say(f"{found['metric']} budget {found['limit']}: {state}, {found['value']}")
    if not summary.holds:
        ui.warn("the best network so far was shipped; it is over a budget.")
    ui.say(f"bundle: {summary.bundle}")
    for folder in summary.pareto:
        ui.say(f"also on the front: {folder}")
    ui.say(f"report: {summary.report}")
    ui.result(summary.to_json())
