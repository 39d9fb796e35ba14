"""`mpqdeploy targets` and `mpqdeploy doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mpqdeploy.targets.doctor import diagnose
from mpqdeploy.targets.target import NAMED, Target, capabilities, host
from mpqdeploy.ui import Ui


def list_targets(ui: Ui) -> None:
    """Every target: what it is, whether it runs here, and its kernels per precision."""
    found = [_describe(target) for target in (host(), *NAMED.values())]
    ui.result(found)
    precisions = list(found[0]["kernels"])
    rows = [
        [
            str(target["name"]),
            str(target["isa"]),
            "yes" if target["runs_here"] else "no",
            *("\n".join(target["kernels"][precision]) or "-" for precision in precisions),
        ]
        for target in found
    ]
    ui.table(
        "Targets, and their kernels for a 3x3 convolution",
        ["target", "isa", "here", *precisions],
        rows,
    )


def doctor(ui: Ui) -> bool:
    """Whether everything that compiling and running need is there."""
    checks = diagnose()
    ui.result([asdict(check) for check in checks])
    rows = [[check.name, check.status, check.found] for check in checks]
    ui.table("This machine", ["check", "status", "found"], rows)
    for check in checks:
        if check.advice:
            ui.say(f"{check.name}: {check.advice}")
    return all(check.status != "fail" for check in checks)


def _describe(target: Target) -> dict[str, Any]:
    kernels = capabilities(target)
    return {
        "name": target.name,
        "isa": target.isa.value,
        "cpu": target.cpu,
        "features": list(target.features),
        "runs_here": not target.missing(),
        "kernels": {str(precision): list(names) for precision, names in kernels.items()},
    }
