"""Baselines: the configured network at uniform precisions, fine-tuned and deployed."""

from __future__ import annotations

from mpqdeploy.core import Precision
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.deploy import deploy
from mpqdeploy.steps.finetune import finetune, from_float
from mpqdeploy.steps.floating import WEIGHTS


def baselines(context: Context, floating: Done) -> dict[str, Done]:
    """Every precision of `baselines`, deployed, by the row's name; all start from `floating`."""
    chosen = context.config.uniform_baselines()
    return {f"uniform {precision}": _baseline(context, precision, floating) for precision in chosen}


def _baseline(context: Context, precision: Precision, floating: Done) -> Done:
    policy = context.uniform(precision)
    name = f"uniform-{precision.weight_bits}-{precision.act_bits}"
    with context.ui.step(f"baseline: uniform {precision}"):
        tuned = finetune(
            context,
            name,
            policy,
            lambda: from_float(context, policy, floating.folder / WEIGHTS),
            {"float": floating},
        )
        return deploy(context, name, tuned, everywhere=False)
