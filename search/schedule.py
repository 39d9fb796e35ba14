"""How one round of BP-NAS runs: its length, the learning rate, the Prob-1 weight, the decision."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mpqdeploy.search.settings import BpNasSettings


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One round, `steps` weight steps per epoch. `refit`: the round continues a search."""

    settings: BpNasSettings
    steps: int
    refit: bool

    @property
    def epochs(self) -> int:
        return self.settings.refit_epochs if self.refit else self.settings.epochs

    @property
    def deciding(self) -> int:
        """Epochs with logit steps, at least one; the policy is decided at their end."""
        return max(1, self.epochs - round(self.settings.adapt * self.epochs))

    def rate(self, epoch: int, step: int) -> float:
        """Learning rate of the weights."""
        end = self.settings.lr * self.settings.final_lr_ratio
        if self.refit:
            return end
        progress = _share(epoch * self.steps + step, self.epochs * self.steps)
        return end + (self.settings.lr - end) * 0.5 * (1 + math.cos(math.pi * progress))

    def warming_up(self, epoch: int, step: int) -> bool:
        """Whether Prob-1 has no say yet."""
        return self._decided(epoch, step) <= self.settings.warmup

    def prob1_weight(self, epoch: int, step: int) -> float:
        """lambda(t): 0 through the warm-up, then quadratic up to its full weight."""
        warmup = self.settings.warmup
        ramp = max(self._decided(epoch, step) - warmup, 0.0) / (1 - warmup)
        return self.settings.prob1_weight * ramp**2

    def _decided(self, epoch: int, step: int) -> float:
        return _share(epoch * self.steps + step, self.deciding * self.steps)


def _share(done: int, count: int) -> float:
    """0 at the first of `count` steps, 1 at the last."""
    return min(done / max(count - 1, 1), 1.0)
