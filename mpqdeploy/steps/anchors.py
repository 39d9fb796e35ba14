"""Anchors: two networks whose measurements calibrate the table before the first search."""

from __future__ import annotations

from dataclasses import dataclass

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.results import Round
from mpqdeploy.run_folder import Done
from mpqdeploy.search.program import cheapest
from mpqdeploy.steps.context import WIDEST, Context
from mpqdeploy.steps.draft import draft_round, time_drafts


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The networks whose measurements calibrate the table before the first search."""

    rounds: tuple[Round, ...]
    budgets: tuple[Budget, ...]


def anchors(context: Context, table: CostTable, profiled: Done) -> Done:
    """Compile and time the uniform 8/8 network and the predicted cheapest one.

    They fix what `limit: 75%` means, and are the first two points of the latency correction: the
    two ends of the range give it the longest lever [o]. Result: their `Round`s and the budgets.
    """
    inputs = {
        **context.config.part("model", "data", "target", "precisions", "budgets", "measure"),
        "profile": profiled,
    }
    return context.folder.step("anchors", inputs, lambda _: _anchors(context, table))


def read_anchors(done: Done) -> Anchors:
    return Anchors(
        rounds=tuple(Round.from_json(data) for data in done.result["rounds"]),
        budgets=tuple(Budget(**data) for data in done.result["budgets"]),
    )


def _anchors(context: Context, table: CostTable) -> dict[str, object]:
    policies = {"uniform 8/8": context.uniform(WIDEST)}
    least = cheapest(table, {"latency": table}, (), context.candidates)
    if least is not None and least != policies["uniform 8/8"]:
        policies["cheapest"] = least
    records = time_drafts(context, policies)
    rounds = [
        draft_round(index, name, policy, table, records[name], limit=0.0, moves=0)
        for index, (name, policy) in enumerate(policies.items())
    ]
    wide = policies["uniform 8/8"]
    uniform = {metric: counted.of(wide) for metric, counted in context.counted.items()}
    uniform["latency"] = records["uniform 8/8"].median_us
    budgets = context.resolve(uniform)
    for budget in budgets:
        context.ui.note(f"  budget: {budget.metric} at most {budget.limit:.6g}")
    return {
        "rounds": [turn.to_json() for turn in rounds],
        "budgets": [vars(budget) for budget in budgets],
    }
