"""A small training problem; run as a script, it trains and is meant to be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mpqdeploy.nn.training import Progress, Recipe, seed_everything, train

RECIPE = Recipe(
    epochs=4, batch_size=16, lr=0.05, warmup_epochs=0.5, label_smoothing=0.1, clip_norm=5.0
)


class Blobs:
    """Two classes of images that a small network tells apart; other batches in every epoch."""

    def __len__(self) -> int:
        return 6

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(len(self)):
            labels = torch.randint(0, 2, (16,), generator=generator)
            images = torch.randn(16, 1, 6, 6, generator=generator)
            images[:, :, :3] += (labels * 2.0 - 1).reshape(-1, 1, 1, 1)
            yield images, labels


def make_net() -> nn.Module:
    """Convolution, BatchNorm and dropout, so that buffers and random states matter."""
    seed_everything(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


def main(checkpoint: Path) -> None:
    """Print every step, with time between them to be killed in."""

    def on_step(progress: Progress) -> None:
        print(progress.epoch, progress.step, flush=True)
        time.sleep(0.05)

    train(make_net(), Blobs(), RECIPE, checkpoint=checkpoint, seed=3, device="cpu", on_step=on_step)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
