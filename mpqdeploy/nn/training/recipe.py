"""`Recipe`: everything that decides how a network is trained, but the data and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mpqdeploy.core import ConfigError
from mpqdeploy.nn.training.amp import Amp


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Epochs, optimizer and learning-rate schedule.

    `momentum` is SGD's (Nesterov). The rate rises linearly over `warmup_epochs`, then falls along
    a half cosine to `final_lr_ratio * lr`, or stays ("constant"). `clip_norm` bounds the norm of
    the gradient. Weight decay applies to weights of convolutions and linear layers alone. `amp` is
    the forward pass's precision (see `Arithmetic`).
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    final_lr_ratio: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    amp: Amp = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1 or self.lr <= 0:
            raise ConfigError(
                f"a recipe of {self.epochs} epochs, batch size {self.batch_size} and learning rate"
                f" {self.lr} cannot be run.",
                hint="Epochs are at least 0, the batch size at least 1, the rate positive.",
            )

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0 over all epochs."""
        warm = self.warmup_epochs * steps_per_epoch
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return self.lr
        span = max(self.epochs * steps_per_epoch - warm, 1.0)
        fall = 0.5 * (1 + math.cos(math.pi * min((step - warm) / span, 1.0)))
        return self.lr * (self.final_lr_ratio + (1 - self.final_lr_ratio) * fall)
