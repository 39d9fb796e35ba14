"""How the learning rate and the Prob-1 weight run over one round of BP-NAS."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mpqdeploy.search.settings import BpNasSettings


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One round of `epochs`, `steps` weight steps each. `refit`: the round continues a search."""

    settings: BpNasSettings
    epochs: int
    steps: int
    refit: bool

    def progress(self, epoch: int, step: int) -> float:
        """Share of the round that is done, 0 at its first step and 1 at its last."""
        return (epoch * self.steps + step) / max(self.epochs * self.steps - 1, 1)

    def rate(self, progress: float) -> float:
        """Learning rate of the weights."""
        end = self.settings.lr * self.settings.final_lr_ratio
        if self.refit:
            return end
        return end + (self.settings.lr - end) * 0.5 * (1 + math.cos(math.pi * progress))

    def prob1_weight(self, progress: float) -> float:
        """lambda(t): 0 through the warm-up, then quadratic up to its full weight."""
        warmup = self.settings.warmup
        ramp = max(progress - warmup, 0.0) / (1 - warmup)
        return self.settings.prob1_weight * ramp**2
