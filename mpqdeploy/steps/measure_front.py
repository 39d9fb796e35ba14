"""Measure the front: every finalist, the baselines and the rivals, timed in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.finalists import Finalist
from mpqdeploy.steps.measure import compiled_row, rival_rows, timed


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the front is compared with: the configured network, trained in full, at uniform
    precisions here and in onnxruntime."""

    floating: Done
    rivals: Done
    baselines: Mapping[str, Done]


def measure_front(
    context: Context, finalists: Sequence[Finalist], beside: Comparison | None
) -> Done:
    """Result: rows as JSON, the rivals and baselines first, then the finalists as given."""
    inputs = {
        **context.config.part("measure", "target"),
        "finalists": {one.name: one.deployed for one in finalists},
        "baselines": dict(beside.baselines) if beside else {},
        "rivals": beside.rivals if beside else None,
    }

    def work(_: object) -> list[dict[str, object]]:
        baselines = beside.baselines if beside else {}
        networks = {**baselines, **{one.name: one.deployed for one in finalists}}
        with context.ui.step("measure everything in turn"):
            records = timed(context, networks, beside.rivals if beside else None)
        rows = [
            *(rival_rows(context, beside.rivals, beside.floating, records) if beside else ()),
            *(compiled_row(context, name, done, records[name]) for name, done in baselines.items()),
            *(
                compiled_row(one.context, one.name, one.deployed, records[one.name])
                for one in finalists
            ),
        ]
        return [row.to_json() for row in rows]

    return context.folder.step("measure-front", inputs, work)
