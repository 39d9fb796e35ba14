"""What is searched: a network on a data set, its candidates, cost tables and float weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mpqdeploy.core import Budget, CostTable, Metric, Policy, Precision, bops_table, bytes_table
from mpqdeploy.core.files import replacing
from mpqdeploy.data import Dataset, DataSpec, Loader, load_dataset
from mpqdeploy.nn import ModelSpec, build_float, scale_clip_, sites
from mpqdeploy.nn.training import Recipe, seed_everything, train
from mpqdeploy.search import Problem, search_space
from mpqdeploy.targets.profile import profile
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui

METRICS: tuple[Metric, ...] = ("latency", "bops", "bytes")

# What the usual ResNet-20 checkpoints were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`tables` has one per metric; latency is measured on this machine, kernel by kernel."""

    spec: ModelSpec
    dataset: Dataset
    candidates: Mapping[str, tuple[Precision, ...]]
    tables: Mapping[str, CostTable]
    checkpoint: Path
    device: str = "auto"

    def budget(self, metric: Metric, room: float) -> Budget:
        """At a share of the reachable range: 0 the cheapest network, 1 the dearest."""
        least, greatest = self.tables[metric].bounds(self.candidates)
        return Budget(metric=metric, limit=least + room * (greatest - least))

    def corrected(self, latency: CostTable) -> Setting:
        """With another latency table."""
        return replace(self, tables={**self.tables, "latency": latency})

    def problem(self, *budgets: Budget, seed: int = 0) -> Problem:
        return Problem(
            spec=self.spec,
            dataset=self.dataset,
            candidates=self.candidates,
            tables=self.tables,
            budgets=budgets,
            seed=seed,
            checkpoint=self.checkpoint,
            device=self.device,
        )


def uniform(candidates: Mapping[str, Sequence[Precision]], precision: Precision) -> Policy:
    """One precision at every site that has a choice."""
    return Policy(precisions={s: c[0] if len(c) == 1 else precision for s, c in candidates.items()})


def digits(work: Path, ui: Ui, *, width: int = 32, epochs: int = 8) -> Setting:
    """The digits CNN; its float network is trained here."""
    dataset = load_dataset(DataSpec(name="digits"))
    spec = ModelSpec(
        name="digits_cnn", num_classes=10, image=dataset.image, options={"width": width}
    )
    checkpoint = work / f"digits-{width}-{epochs}.pt"
    if not checkpoint.exists():
        ui.note(f"training the float network, {epochs} epochs")
        _train(spec, dataset, checkpoint, epochs)
    return _setting(spec, dataset, checkpoint, work, ui)


def resnet20(work: Path, ui: Ui, *, data: Path, checkpoint: Path) -> Setting:
    """ResNet-20 on CIFAR-10, from a trained float checkpoint."""
    dataset = load_dataset(DataSpec(name="cifar10", dir=data, mean=MEAN, std=STD))
    spec = ModelSpec(name="resnet20", num_classes=10, image=dataset.image)
    return _setting(spec, dataset, checkpoint, work, ui)


def _train(spec: ModelSpec, dataset: Dataset, checkpoint: Path, epochs: int) -> None:
    seed_everything(0)
    net = build_float(spec)
    recipe = Recipe(epochs=epochs, batch_size=64, lr=0.05)
    loader = Loader.training(dataset, "fit", batch_size=recipe.batch_size)
    train(net, loader, recipe, post_step=scale_clip_)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with replacing(checkpoint) as temporary:
        torch.save(net.state_dict(), temporary)


def _setting(spec: ModelSpec, dataset: Dataset, checkpoint: Path, work: Path, ui: Ui) -> Setting:
    target, found, store = load_target("host"), sites(spec), RecordStore(kernel_store(work))
    precisions = target.precisions
    with ui.task("profiling kernels", 1) as task:
        latency = profile(found, precisions, target, store, progress=task.track)
    tables = {
        "latency": latency,
        "bops": bops_table(found, precisions),
        "bytes": bytes_table(found, precisions),
    }
    return Setting(
        spec=spec,
        dataset=dataset,
        candidates=search_space(found, precisions),
        tables=tables,
        checkpoint=checkpoint,
    )


def kernel_store(work: Path) -> str:
    """URL of where the latencies of kernels are kept."""
    return f"sqlite:///{(work / 'latency.sqlite').absolute()}"
