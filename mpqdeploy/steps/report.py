"""Report: gather what the steps left on disk into one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mpqdeploy.core import CostTable
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.provenance import versions
from mpqdeploy.report import write_report
from mpqdeploy.report.render import Material
from mpqdeploy.results import Summary
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context


def report(
    context: Context, summary: Summary, table: CostTable, searched: Done, deployed: Done
) -> None:
    """Write `report.html`."""
    last = summary.rounds[-1]
    material = Material(
        table=replace(table, offset=last.offset_us, scale=last.scale),
        series=series(searched.result["history"]),
        certificate=Certificate.from_json(deployed.result["certificate"]),
        kernels=deployed.result["compile"]["steps"],
        notes=searched.result["notes"],
        machine=_machine(context),
        config=yaml.safe_dump(context.config.snapshot(), sort_keys=False),
    )
    write_report(Path(summary.report), summary, material)


def series(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The search's curves by plot: losses, accuracy, expected cost, how decided the logits are."""
    if not history:
        return {}
    curves: dict[str, dict[str, list[float]]] = {
        "loss": _collect(history, "losses"),
        "validation accuracy": {"accuracy": [epoch["val_accuracy"] for epoch in history]},
        "violation (share of the budget)": _collect(history, "violation"),
    }
    if all(epoch["max_probability"] for epoch in history):
        chances = [list(epoch["max_probability"].values()) for epoch in history]
        entropies = [list(epoch["entropy"].values()) for epoch in history]
        curves["how decided the sites are"] = {
            "least max probability": [min(values) for values in chances],
            "mean max probability": [sum(values) / len(values) for values in chances],
            "mean entropy (nats)": [sum(values) / len(values) for values in entropies],
        }
    return {title: lines for title, lines in curves.items() if lines}


def _collect(history: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    names = list(dict.fromkeys(name for epoch in history for name in epoch[key]))
    return {name: [epoch[key].get(name, float("nan")) for epoch in history] for name in names}


def _machine(context: Context) -> dict[str, str]:
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
