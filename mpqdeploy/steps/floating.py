"""The float network that everything starts from: a checkpoint, or trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mpqdeploy.core.files import replacing
from mpqdeploy.nn import build_float
from mpqdeploy.nn.training import evaluate, seed_everything
from mpqdeploy.run_folder import SCRATCH, Done
from mpqdeploy.steps.context import Context, load_start
from mpqdeploy.steps.together import Training
from mpqdeploy.steps.training import following

WEIGHTS = "float.pt"


def float_network(
    context: Context, name: str = "float", inputs: Mapping[str, object] | None = None
) -> Done:
    """Result: `{"accuracy", "epochs"}`; file `float.pt`. `inputs`: what makes it another network
    than the configured one.

    A given checkpoint is trained on only where `train.epochs` says so. Scale-Clip reshaping is on
    while training from scratch [r]; a checkpoint's weights are left as they are.
    """
    config = context.config
    given = {
        **config.part("model", "data", "train", "seed", "device"),
        "checkpoint": _digest(config.model.checkpoint or config.model.backbone),
        **(inputs or {}),
    }
    return context.folder.step(name, given, lambda folder: _work(context, folder))


def _work(context: Context, folder: Path) -> dict[str, float]:
    import torch

    config = context.config
    seed_everything(config.seed)
    net = build_float(context.spec)
    load_start(net, config.model)
    recipe = config.train.recipe()
    if recipe.epochs:
        # Of the supernet's search: bomp-nas has its trials trained without it.
        scale_clip = config.search.reshape and config.search.engine != "bomp-nas"
        reshape = config.model.checkpoint is None and scale_clip
        job = Training(recipe=recipe, reshape=reshape)
        steps = len(job.loader(context))
        with following(context.ui, "float training", recipe.epochs, steps) as on_step:
            job.lead(context, net, folder / SCRATCH / "training.pt", on_step)
    with replacing(folder / WEIGHTS) as temporary:
        torch.save(net.state_dict(), temporary)
    accuracy = evaluate(net, context.test_batches(), device=config.device)
    return {"accuracy": accuracy, "epochs": recipe.epochs}


def _digest(path: Path | None) -> str | None:
    from mpqdeploy.core.files import sha256

    return sha256(path) if path else None
