"""The training loop: resumable at every epoch, with the same end as an uninterrupted run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn, optim

from mpqdeploy.core import UserError
from mpqdeploy.nn.task import task_of
from mpqdeploy.nn.training import checkpoint as checkpoints
from mpqdeploy.nn.training.device import autocast, home, pick_device
from mpqdeploy.nn.training.evaluation import Batch
from mpqdeploy.nn.training.optimizer import make_optimizer, set_rate
from mpqdeploy.nn.training.recipe import Recipe
from mpqdeploy.nn.training.seed import seed_everything


class TrainingError(UserError):
    """A training run that diverged."""


class Batches(Protocol):
    """Batches that depend on the epoch alone: `mpqdeploy.data.Loader`."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[Batch]: ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: means over the epoch so far, and its speed.

    `epoch` and `step` count from 1; `step == steps` closes an epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    rate: float
    images_per_second: float


OnProgress = Callable[[Progress], None]
PostStep = Callable[[nn.Module], None]


def train(
    net: nn.Module,
    loader: Batches,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    on_epoch: OnProgress | None = None,
    on_step: OnProgress | None = None,
    post_step: PostStep | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[Progress]:
    """Train in place; the progress at the end of each epoch, resumed ones included.

    With `checkpoint`, the state is saved there after every epoch and taken up from there if the
    file exists: on a CPU the weights at the end are then bit by bit those of a run that was never
    interrupted. `post_step` is called after every update (weight reshaping). On CUDA the network
    computes in bfloat16 where it can; it is back on its own device at the end.

    Raises `TrainingError` where the loss or a weight is no longer finite, keeping the last good
    checkpoint, and `CheckpointError` for a checkpoint of another network.
    """
    place, before = pick_device(device), home(net)
    net.to(place).train()
    optimizer = make_optimizer(net.named_parameters(), recipe)
    history: list[Progress] = []
    if checkpoint is not None and checkpoint.exists():
        _, extra = checkpoints.load(checkpoint, net, optimizer)
        history = [Progress(**fields) for fields in extra["history"]]
    else:
        seed_everything(seed)
    run = _Run(net, optimizer, recipe, place, on_step, post_step)
    try:
        for epoch in range(len(history), recipe.epochs):
            done = run.epoch(loader, epoch)
            history.append(done)
            if checkpoint is not None:
                extra = {"history": [vars(progress) for progress in history]}
                checkpoints.save(checkpoint, net, optimizer, epochs=epoch + 1, extra=extra)
            if on_epoch is not None:
                on_epoch(done)
    finally:
        net.to(before)
    return history


@dataclass(frozen=True)
class _Run:
    net: nn.Module
    optimizer: optim.Optimizer
    recipe: Recipe
    place: torch.device
    on_step: OnProgress | None
    post_step: PostStep | None

    def epoch(self, loader: Batches, epoch: int) -> Progress:
        steps = len(loader)
        loss_sum, right, seen = 0.0, 0.0, 0
        started = time.perf_counter()
        progress: Progress | None = None
        for step, (images, labels) in enumerate(loader.epoch(epoch)):
            rate = self.recipe.rate(epoch * steps + step, steps)
            set_rate(self.optimizer, rate)
            loss, share = self._step(images.to(self.place), labels.to(self.place))
            if not math.isfinite(loss):
                raise _diverged("loss", epoch, step, rate)
            seen += len(labels)
            right += share * len(labels)
            loss_sum += loss * len(labels)
            progress = Progress(
                epoch=epoch + 1,
                epochs=self.recipe.epochs,
                step=step + 1,
                steps=steps,
                loss=loss_sum / seen,
                accuracy=right / seen,
                rate=rate,
                images_per_second=seen / (time.perf_counter() - started),
            )
            if self.on_step is not None:
                self.on_step(progress)
        if progress is None:
            raise TrainingError("there are no batches to train on.", hint="Check the split's size.")
        if not all(bool(p.isfinite().all()) for p in self.net.parameters()):
            raise _diverged("a weight", epoch, steps - 1, progress.rate)
        return progress

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """The loss before the step, and the share of decisions that were right."""
        task, smoothing = task_of(self.net), self.recipe.label_smoothing
        with autocast(self.place):
            outputs = self.net(images)
        judged = task.judge(outputs, labels, label_smoothing=smoothing)
        loss = judged.loss
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        value = loss.item()
        if math.isfinite(value):
            self.optimizer.step()
            if self.post_step is not None:
                self.post_step(self.net)
        return value, judged.right.item()


def _diverged(what: str, epoch: int, step: int, rate: float) -> TrainingError:
    return TrainingError(
        f"training diverged: {what} is not finite at step {step + 1} of epoch {epoch + 1}"
        f" (learning rate {rate:g}).",
        hint="Lower lr, add warmup_epochs or set clip_norm; the last epoch's checkpoint is kept.",
    )
