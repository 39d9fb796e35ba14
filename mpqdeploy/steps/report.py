"""Report: gather what the steps left on disk into one HTML page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from mpqdeploy.core import CostTable
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.provenance import versions
from mpqdeploy.report import write_report
from mpqdeploy.report.render import Material
from mpqdeploy.results import Summary
from mpqdeploy.run_folder import Done
from mpqdeploy.search.engine import Epoch
from mpqdeploy.steps.context import Context


def report(
    context: Context, summary: Summary, table: CostTable, searched: Done, deployed: Done
) -> None:
    """Write `report.html`."""
    last = summary.rounds[-1]
    material = Material(
        table=replace(table, offset=last.offset_us, scale=last.scale, factors=last.factors),
        history=[Epoch(**epoch) for epoch in searched.result["history"]],
        certificate=Certificate.from_json(deployed.result["certificate"]),
        kernels=deployed.result["compile"]["steps"],
        notes=searched.result["notes"],
        machine=machine_of(context),
        config=yaml.safe_dump(context.config.snapshot(), sort_keys=False),
    )
    write_report(Path(summary.report), summary, material)


def machine_of(context: Context) -> dict[str, str]:
    """The line under a report's title."""
    found = context.fingerprint
    return {
        "CPU": found.cpu,
        "cores": str(found.cores),
        "kernels": str(context.target.isa),
        "system": found.system,
        "seed": str(context.config.seed),
        **{
            name: version
            for name, version in versions().items()
            if name in ("torch", "onnxruntime")
        },
        "TVM": found.tvm,
    }
