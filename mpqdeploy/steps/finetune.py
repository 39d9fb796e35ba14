"""Fine-tune: quantization-aware training of one policy's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mpqdeploy.core import Policy
from mpqdeploy.core.files import replacing
from mpqdeploy.nn import build_float, build_quantized, load_checkpoint
from mpqdeploy.nn.training import evaluate, network_state, restore_network, seed_everything
from mpqdeploy.run_folder import SCRATCH, Done
from mpqdeploy.search.post_training import quantized_after_training
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.together import Training
from mpqdeploy.steps.training import following

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "quantized.pt"


def finetune(
    context: Context,
    name: str,
    policy: Policy,
    start: Callable[[], nn.Module],
    inputs: Mapping[str, object],
) -> Done:
    """Train the network that `start()` makes. Result: `{"policy", "accuracy", "epochs"}`;
    file `quantized.pt`."""
    given = {
        **context.config.part("finetune", "seed", "device"),
        "policy": policy.to_json(),
        **inputs,
    }

    def work(folder: Path) -> dict[str, object]:
        return _work(context, name, policy, start, folder)

    return context.folder.step(f"finetune-{name}", given, work)


def _work(
    context: Context, name: str, policy: Policy, start: Callable[[], nn.Module], folder: Path
) -> dict[str, object]:
    import torch

    config = context.config
    seed_everything(config.seed)
    net = start()
    recipe = config.finetune.recipe()
    if recipe.epochs:
        job = Training(recipe=recipe, policy=policy.to_json())
        label, steps = f"fine-tuning {name}", len(job.loader(context))
        with following(context.ui, label, recipe.epochs, steps) as on_step:
            job.lead(context, net, folder / SCRATCH / "training.pt", on_step)
    with replacing(folder / WEIGHTS) as temporary:
        torch.save(network_state(net), temporary)
    accuracy = evaluate(net, context.test_batches(), device=config.device)
    return {"policy": policy.to_json(), "accuracy": accuracy, "epochs": recipe.epochs}


def from_search(context: Context, policy: Policy, weights: Path) -> nn.Module:
    """The network as the search left it."""
    import torch

    net = build_quantized(context.spec, policy)
    restore_network(net, torch.load(weights, map_location="cpu", weights_only=True), weights)
    return net


def from_float(context: Context, policy: Policy, checkpoint: Path) -> nn.Module:
    """The float network quantized after training: where baselines and finalists start."""
    source = build_float(context.spec)
    load_checkpoint(source, checkpoint)
    config = context.config
    return quantized_after_training(
        source, context.spec, policy, context.dataset, seed=config.seed, device=config.device
    )


def load(context: Context, tuned: Done) -> nn.Module:
    """The network of a finished fine-tuning step."""
    policy = Policy.from_json(tuned.result["policy"])
    return from_search(context, policy, tuned.folder / WEIGHTS)
