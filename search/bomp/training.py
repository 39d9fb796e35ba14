"""How well a network of the space does after a short training: the trial's accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from mpqdeploy.data import Dataset, Loader, Split
from mpqdeploy.nn import build_float
from mpqdeploy.nn.training import Recipe, evaluate, seed_everything, train
from mpqdeploy.nn.training.loop import OnProgress
from mpqdeploy.search.bomp.networks import Network
from mpqdeploy.search.post_training import quantized_after_training

EVALUATION_BATCH = 250

OnPhase = Callable[[str], OnProgress | None]
"""Told what is trained next ("float", "qaft"); who listens gives a callback for its progress."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How a trial trains [r]: in float, quantized after that, then fine-tuned at its bits.

    `tuning` of 0 epochs scores the network as quantization alone leaves it.
    """

    training: Recipe
    tuning: Recipe

    def steps(self, dataset: Dataset) -> int:
        """Weight updates in one trial."""
        return sum(
            recipe.epochs * len(Loader.training(dataset, "fit", batch_size=recipe.batch_size))
            for recipe in (self.training, self.tuning)
        )


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Shares in [0, 1]: in float, after quantization, after fine-tuning."""

    float32: float
    quantized: float
    tuned: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def accuracies(
    network: Network,
    dataset: Dataset,
    fidelity: Fidelity,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    split: Split = "val",
    on_phase: OnPhase = lambda phase: None,
) -> Accuracies:
    """Train `network` on the `fit` split and score it on `split`, which no training sees.

    What has been trained lies in `folder`: killed and called again, it goes on there, and ends on
    a CPU as it would have. Raises `TrainingError` where training diverges.
    """

    def trained(net: nn.Module, recipe: Recipe, phase: str) -> float:
        loader = Loader.training(dataset, "fit", batch_size=recipe.batch_size, seed=seed)
        train(
            net,
            loader,
            recipe,
            checkpoint=folder / f"{phase}.pt",
            on_step=on_phase(phase),
            seed=seed,
            device=device,
        )
        return scored(net)

    def scored(net: nn.Module) -> float:
        batches = Loader(dataset, split, batch_size=EVALUATION_BATCH)
        return evaluate(net, batches, device=device)

    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(seed)
    source = build_float(network.spec)
    float32 = trained(source, fidelity.training, "float")
    net = quantized_after_training(
        source, network.spec, network.policy, dataset, seed=seed, device=device
    )
    quantized = scored(net)
    tuned = trained(net, fidelity.tuning, "qaft") if fidelity.tuning.epochs else quantized
    return Accuracies(float32=float32, quantized=quantized, tuned=tuned)
