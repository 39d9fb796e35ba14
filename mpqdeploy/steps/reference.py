"""The reference of a search over architectures: the configured network at uniform 8/8."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import Budget, LatencyRecord
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.anchors import LIBRARY, resolved
from mpqdeploy.steps.context import REFERENCE, Context
from mpqdeploy.steps.draft import Reference, reference


def clock(context: Context) -> Done:
    """Compile and time it: the clock of every trial, and what `limit: 75%` is a share of.

    Result: its latency record and the budgets; file: its library.
    """
    inputs = context.config.part("model", "data", "target", "budgets", "measure")

    def work(folder: Path) -> dict[str, object]:
        with context.ui.task("compiling the reference", 1) as task:
            against = reference(context, folder / LIBRARY)
            task.advance(note=REFERENCE)
        budgets = resolved(context, against)
        return {
            "record": against.record.to_json(),
            "budgets": [vars(budget) for budget in budgets],
        }

    return context.folder.step("reference", {**inputs, "target": context.target.key}, work)


def read_reference(done: Done) -> tuple[Reference, tuple[Budget, ...]]:
    record = LatencyRecord.from_json(done.result["record"])
    budgets = tuple(Budget(**data) for data in done.result["budgets"])
    return Reference(record=record, library=done.folder / LIBRARY), budgets
