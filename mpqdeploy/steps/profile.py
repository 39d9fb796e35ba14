"""Profile: every site at every candidate precision, compiled and measured on the target."""

from __future__ import annotations

from mpqdeploy.core import CostTable
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.profiled import STEP, profile_inputs
from mpqdeploy.targets.profile import profile


def latency_table(context: Context) -> Done:
    """Result: the latency `CostTable` as JSON, uncorrected, in microseconds.

    It covers the baselines' precisions too, so that these are compiled with tuned kernels. The
    measurements themselves are in the record store, which outlives the run.
    """
    inputs = profile_inputs(context.config, context.target, context.fingerprint)
    return context.folder.step(STEP, inputs, lambda _: _work(context).to_json())


def _work(context: Context) -> CostTable:
    precisions = tuple(
        sorted({*context.precisions, *context.config.uniform_baselines()}, reverse=True)
    )
    with context.ui.task("profiling kernels", 1) as task:
        return profile(
            context.sites, precisions, context.target, context.store, progress=task.track
        )
