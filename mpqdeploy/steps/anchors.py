"""Anchors: two networks whose measurements calibrate the table before the first search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.results import Round
from mpqdeploy.run_folder import Done
from mpqdeploy.search.program import cheapest
from mpqdeploy.steps.context import REFERENCE, WIDEST, Context
from mpqdeploy.steps.draft import Reference, draft_round, reference, time_draft

LIBRARY = "reference.so"


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The networks whose measurements calibrate the table before the first search."""

    rounds: tuple[Round, ...]
    budgets: tuple[Budget, ...]
    reference: Reference


def anchors(context: Context, table: CostTable, profiled: Done) -> Done:
    """Compile and time the uniform 8/8 network and the predicted cheapest one.

    They fix what `limit: 75%` means, and are the first two points of the latency correction: the
    two ends of the range give it the longest lever [o]. Result: their `Round`s and the budgets.
    """
    inputs = {
        **context.config.part("model", "data", "target", "precisions", "budgets", "measure"),
        "exclude": context.config.search.exclude,
        "profile": profiled,
    }
    return context.folder.step("anchors", inputs, lambda folder: _anchors(context, table, folder))


def read_anchors(done: Done) -> Anchors:
    rounds = tuple(Round.from_json(data) for data in done.result["rounds"])
    return Anchors(
        rounds=rounds,
        budgets=tuple(Budget(**data) for data in done.result["budgets"]),
        reference=Reference(record=rounds[0].measured, library=done.folder / LIBRARY),
    )


def _anchors(context: Context, table: CostTable, folder: Path) -> dict[str, object]:
    wide = context.uniform(WIDEST)
    with context.ui.task("compiling the reference", 1) as task:
        against = reference(context, folder / LIBRARY)
        task.advance(note=REFERENCE)
    records = {REFERENCE: (wide, against.record)}
    least = cheapest(table, {"latency": table}, (), context.candidates)
    if least is not None and least != wide:
        records["cheapest"] = (least, time_draft(context, "cheapest", least, against))
    rounds = [
        draft_round(index, name, policy, table, record, limit=0.0, moves=0)
        for index, (name, (policy, record)) in enumerate(records.items())
    ]
    return {
        "rounds": [turn.to_json() for turn in rounds],
        "budgets": [vars(budget) for budget in resolved(context, against)],
    }


def resolved(context: Context, against: Reference) -> tuple[Budget, ...]:
    """The budgets in their units, said to the user; percentages are of the reference."""
    wide = context.uniform(WIDEST)
    uniform = {metric: counted.of(wide) for metric, counted in context.counted.items()}
    uniform["latency"] = against.record.median_us
    budgets = context.resolve(uniform)
    for budget in budgets:
        context.ui.note(f"  budget: {budget.metric} at most {budget.limit:.6g}")
    return budgets
