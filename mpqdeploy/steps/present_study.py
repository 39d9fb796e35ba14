"""What a run with bomp-nas shows on the terminal: the plan, and the front of its study."""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.core import Metric
from mpqdeploy.report.render import UNITS, amount
from mpqdeploy.search.bomp import Trial
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.steps.context import Context
from mpqdeploy.ui import Ui


def print_study_plan(context: Context, networks: Networks, until: str | None) -> None:
    """What a run would do, and what it would do it with."""
    config, ui = context.config, context.ui
    bomp = config.search.bomp
    train, tune = config.train.epochs, config.finetune.epochs
    plan = [
        f"reference: compile and time {context.spec.name} at uniform 8/8 on {context.target.name}"
        f" ({context.target.isa})",
        f"study: {bomp.trials} of {_count(networks.space.count())} networks, proposed by"
        f" {bomp.sampler}; a trial: {bomp.epochs} epochs in float, post-training quantization,"
        f" {bomp.qaft_epochs} of fine-tuning, compiled and timed; kept in"
        f" {config.search.study or config.run_dir}",
        f"train at most {bomp.pareto} networks of the front of accuracy and {bomp.front} in full,"
        f" {train} epochs in float and {tune} of fine-tuning; export, compile, verify, measure",
        f"baselines: uniform {', '.join(config.baselines)}; onnxruntime float32 and int8"
        if config.baselines
        else "no baselines",
        f"ship {config.run_dir / 'bundle'}, {config.run_dir / 'pareto'} and"
        f" {config.run_dir / 'report.html'}",
    ]
    shown = plan[: 2 if until == "search" else len(plan)]
    budgets = [f"{section.metric} at most {section.limit}" for section in config.budgets]
    ui.say(f"{context.spec.name} on {context.dataset.name}; {'; '.join(budgets)}")
    for number, line in enumerate(shown, 1):
        ui.say(f"{number}. {line}")
    ui.result({"plan": shown, "budgets": budgets, "networks": networks.space.count()})


def _count(networks: int) -> str:
    return f"{networks:,}" if networks < 1_000_000 else f"{networks:.3g}"


def print_front(ui: Ui, front: Sequence[Trial], best: Trial, metric: Metric) -> None:
    """The trials that no other beats in accuracy and `metric`, all of them inside the budgets."""
    rows = [
        [
            f"trial {trial.number}{' (best)' if trial.number == best.number else ''}",
            f"{100 * trial.outcome.accuracy:.1f} %",
            *(amount(trial.outcome.costs[m], UNITS[m]) for m in ("latency", "bytes", "bops")),
        ]
        for trial in front
        if trial.outcome is not None
    ]
    columns = ["network", "accuracy (validation)", "latency", "weights", "BOPs"]
    ui.table(f"front of accuracy and {metric}", columns, rows)
    ui.result({"front": [trial.to_json() for trial in front], "best": best.to_json()})
