"""The training loop: resumable at every epoch, with the same end as an uninterrupted run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from mpqdeploy.core import UserError
from mpqdeploy.nn.task import task_of
from mpqdeploy.nn.training import checkpoint as checkpoints
from mpqdeploy.nn.training.amp import Arithmetic
from mpqdeploy.nn.training.device import home, pick_device
from mpqdeploy.nn.training.evaluation import Batch
from mpqdeploy.nn.training.optimizer import make_optimizer, set_rate
from mpqdeploy.nn.training.recipe import Recipe
from mpqdeploy.nn.training.seed import seed_epoch
from mpqdeploy.nn.training.world import ALONE, World


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
    world: World = ALONE,
) -> list[Progress]:
    """Train in place; the progress at the end of each epoch, resumed ones included.

    With `checkpoint`, the state is saved there after every epoch and taken up from there if the
    file exists: on a CPU the weights at the end are then bit by bit those of a run that was never
    interrupted. `post_step` is called after every update (weight reshaping). `recipe.amp` chooses
    the forward pass's precision. The network is back on its own device at the end.

    Every process of `world` calls this with its own part of the batches; the leader's network,
    checkpoint and recipe count, and the network ends the same in all of them.

    Raises `TrainingError` where the loss or a weight is no longer finite, keeping the last good
    checkpoint, and `CheckpointError` for a checkpoint of another network.
    """
    before = home(net)
    run = _Run(net, recipe, pick_device(device), seed, world, on_step, post_step)
    history = run.start(checkpoint)
    try:
        with world.together(net) as run.forward:
            for epoch in range(len(history), recipe.epochs):
                done = run.epoch(loader, epoch)
                history.append(done)
                if checkpoint is not None and world.leads:
                    checkpoints.save(checkpoint, run.packed(history))
                if on_epoch is not None:
                    on_epoch(done)
    finally:
        net.to(before)
    return history


class _Run:
    """One call of `train`: the network on its device, its optimizer and its arithmetic."""

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        place: torch.device,
        seed: int,
        world: World,
        on_step: OnProgress | None,
        post_step: PostStep | None,
    ) -> None:
        self.net = self.forward = net.to(place).train()
        self.recipe = recipe
        self.place = place
        self.seed = seed
        self.world = world
        self.on_step = on_step
        self.post_step = post_step
        self.optimizer = make_optimizer(net.named_parameters(), recipe)
        self.arithmetic = Arithmetic(recipe.amp, place)

    def start(self, checkpoint: Path | None) -> list[Progress]:
        """Where the leader stands, taken over by everybody; the epochs that are done."""
        history: list[Progress] = []
        if self.world.leads and checkpoint is not None and checkpoint.exists():
            history = self._take_up(checkpoint.read_bytes(), checkpoint)
        if self.world.size > 1:
            content = self.world.shared(self.packed(history))
            history = self._take_up(content, Path("what the leader sent"))
        return history

    def packed(self, history: list[Progress]) -> bytes:
        extra = {
            "history": [vars(progress) for progress in history],
            "arithmetic": self.arithmetic.state(),
        }
        return checkpoints.packed(self.net, self.optimizer, extra)

    def _take_up(self, content: bytes, source: Path) -> list[Progress]:
        extra = checkpoints.unpack(content, self.net, self.optimizer, source)
        self.arithmetic.restore(extra["arithmetic"])
        return [Progress(**fields) for fields in extra["history"]]

    def epoch(self, loader: Batches, epoch: int) -> Progress:
        seed_epoch(self.seed, epoch, self.world.rank)
        steps = len(loader)
        loss_sum, right, seen = 0.0, 0.0, 0
        started = time.perf_counter()
        progress: Progress | None = None
        for step, (images, labels) in enumerate(loader.epoch(epoch)):
            rate = self.recipe.rate(epoch * steps + step, steps)
            set_rate(self.optimizer, rate)
            loss, share = self._step(self._here(images), self._here(labels))
            if not math.isfinite(loss):
                raise _diverged("loss", epoch, step, rate)
            count = len(labels) * self.world.size
            seen += count
            right += share * count
            loss_sum += loss * count
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
        with self.arithmetic.autocast():
            outputs = self.forward(images)
        judged = task.judge(outputs, labels, label_smoothing=smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.arithmetic.backward(judged.loss)
        if self.recipe.clip_norm is not None:
            self.arithmetic.unscale(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        value, share = self.world.mean(torch.stack((judged.loss, judged.right))).tolist()
        if math.isfinite(value):
            self.arithmetic.step(self.optimizer)
            if self.post_step is not None:
                self.post_step(self.net)
        return value, share

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.place, non_blocking=True)


def _diverged(what: str, epoch: int, step: int, rate: float) -> TrainingError:
    return TrainingError(
        f"training diverged: {what} is not finite at step {step + 1} of epoch {epoch + 1}"
        f" (learning rate {rate:g}).",
        hint="Lower lr, add warmup_epochs or set clip_norm; the last epoch's checkpoint is kept.",
    )
