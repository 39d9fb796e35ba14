"""What several processes train together, to be compared with one process; torchrun starts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpqdeploy.core import Policy, Precision
from mpqdeploy.data import DataSpec, Loader, load_dataset
from mpqdeploy.nn import ModelSpec, build_float, build_quantized, calibrate, sites
from mpqdeploy.nn.training import (
    Progress,
    Recipe,
    World,
    joined,
    network_state,
    recalibrate_batchnorm,
    seed_everything,
    train,
)

KINDS = ("float", "clipped", "quantized")
FOUR = Precision(weight_bits=4, act_bits=4)
RECIPE = Recipe(epochs=2, batch_size=12, lr=0.01, label_smoothing=0.1)


def trained(
    kind: str,
    images: Path,
    world: World,
    *,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
) -> Any:
    """The gradients of the first step, the losses of every epoch, and the state at the end."""
    limit = {"train": 40, "search": 8}
    data = load_dataset(DataSpec(name="imagefolder", dir=images, size=16, workers=0, limit=limit))
    classes = len(data.classes)
    spec = ModelSpec(name="resnet18", num_classes=classes, image=data.image, options={"width": 8})
    # What a follower starts from does not count: it gets the leader's weights.
    net = start(kind, spec, seed=world.rank)
    gradients: dict[str, torch.Tensor] = {}

    def note(inner: nn.Module) -> None:
        if not gradients:
            named = inner.named_parameters()
            gradients.update({n: p.grad.clone() for n, p in named if p.grad is not None})

    def stop(progress: Progress) -> None:
        if progress.epoch == stop_after:
            raise StoppedError

    clip = 0.5 if kind == "clipped" else None
    recipe = replace(RECIPE, clip_norm=clip)
    loader = Loader.training(data, "fit", batch_size=12, seed=5, shard=world.shard)
    history: list[Progress] = train(
        net,
        Doubles(loader),
        recipe,
        on_epoch=stop,
        post_step=note,
        device="cpu",
        world=world,
        checkpoint=checkpoint,
    )
    return {
        "gradients": gradients,
        "losses": [progress.loss for progress in history],
        "accuracies": [progress.accuracy for progress in history],
        "state": network_state(net)["tensors"],
        "kinds": sorted({type(module).__name__ for module in net.modules()}),
    }


def start(kind: str, spec: ModelSpec, seed: int) -> nn.Module:
    seed_everything(seed)
    if kind != "quantized":
        return build_float(spec).double()
    net = build_quantized(spec, Policy.uniform(sites(spec), FOUR)).double()
    images = torch.randn(32, *spec.image).double()
    recalibrate_batchnorm(net, [(images, images)])
    calibrate(net, [images])
    return net


class StoppedError(Exception):
    pass


class Doubles:
    """A loader's images in float64, where sums in another order differ by nothing that matters."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return ((images.double(), labels) for images, labels in self._loader.epoch(epoch))


def main(images: Path, out: Path) -> None:
    with joined("cpu") as world:
        results = {kind: trained(kind, images, world) for kind in KINDS}
        # Resumed after an epoch, from the leader's file alone.
        file = out / "train.pt" if world.leads else None
        with suppress(StoppedError):
            trained("float", images, world, checkpoint=file, stop_after=1)
        results["resumed"] = trained("float", images, world, checkpoint=file)
    torch.save(results, out / f"rank{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
