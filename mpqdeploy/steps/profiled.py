"""A profile that is done: read and shown without loading what made it.

Everything here starts in a second: no torch, no data, no model.
"""

from __future__ import annotations

from typing import Any

from mpqdeploy.config import Config
from mpqdeploy.core import CostTable, Fingerprint
from mpqdeploy.run_folder import RunFolder
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.kernels import versions
from mpqdeploy.targets.target import Target, load_target
from mpqdeploy.ui import Ui

STEP = "profile"


def profile_inputs(config: Config, target: Target, fingerprint: Fingerprint) -> dict[str, Any]:
    """Everything that a run's latency table depends on: with other kernels it is made anew."""
    return {
        **config.part("model", "data", "target", "precisions", "baselines"),
        "target": target.key,
        "machine": short_hash(fingerprint),
        "kernels": versions(),
    }


def finished_profile(config: Config) -> CostTable | None:
    """The latency table in the configuration's run folder, if that step is done.

    Raises `ConfigError` where the folder holds a run of another configuration, `TargetError` for
    an unknown target or one that this machine is not.
    """
    folder = RunFolder(config.run_dir)
    folder.check(config.snapshot())
    target = load_target(config.target.name, config.target.threads)
    target.require_here()
    done = folder.done(STEP, profile_inputs(config, target, host_fingerprint()))
    return CostTable.from_json(done.result) if done else None


def print_table(ui: Ui, table: CostTable) -> None:
    """Measured latency of every site at every candidate, in microseconds."""
    columns = sorted({p for costs in table.entries.values() for p in costs}, reverse=True)
    rows = [
        [name, *(f"{costs[p]:.2f}" if p in costs else "" for p in columns)]
        for name, costs in table.entries.items()
    ]
    ui.table("latency per site (us)", ["site", *map(str, columns)], rows)
    ui.result(table.to_json())
