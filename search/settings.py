"""Every choice that BP-NAS leaves open. The paper's schedule is not published: all are ours [o]."""

from __future__ import annotations

from dataclasses import dataclass

from mpqdeploy.core import ConfigError
from mpqdeploy.nn import Mode
from mpqdeploy.nn.training import Amp
from mpqdeploy.search.barrier import BarrierKind


@dataclass(frozen=True, kw_only=True)
class BpNasSettings:
    """Hyper-parameters of one search; the defaults suit small networks and a few hundred steps.

    *Length.* `epochs` of the first search, `refit_epochs` of each that continues it with corrected
    tables or other budgets; `steps` weight steps per epoch, None for a whole pass over `train`.
    One logit step follows each `theta_every` weight steps.

    *Weights.* SGD with Nesterov momentum; the rate falls along a half cosine from `lr` to
    `final_lr_ratio * lr`, and stays at the latter while refitting. `reshape`: Scale-Clip.

    *Logits.* Adam with `theta_lr`. The loss is CE + sum of barriers + lambda(t) L_p; lambda is 0
    for the first `warmup` share of the logit steps, then grows with the square of what is left to
    `prob1_weight`. At the end every site's greatest probability exceeds `one_hot`.

    *Decision.* The policy is decided when `adapt`, the last share of the epochs, begins; `spend`
    lets it use up what the argmax network leaves of the budgets. The rest trains the weights alone,
    on the network that was decided on.

    `reopen`: a search that continues first softens its nearly one-hot distributions to at most
    this greatest probability, or no gradient would reach them.
    """

    mode: Mode = "joint"
    epochs: int = 10
    refit_epochs: int = 4
    steps: int | None = None
    theta_every: int = 1
    batch_size: int = 64

    lr: float = 0.02
    final_lr_ratio: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    reshape: bool = True

    theta_lr: float = 0.05
    barrier: BarrierKind = "double_log"
    barrier_weight: float = 0.01
    prob1_weight: float = 1.0
    warmup: float = 0.3
    one_hot: float = 0.99
    adapt: float = 0.2
    spend: bool = True
    reopen: float = 0.7

    amp: Amp = "auto"

    val_batches: int = 8
    calibration_batches: int = 4

    def __post_init__(self) -> None:
        counts = ("epochs", "refit_epochs", "theta_every", "batch_size", "val_batches")
        for name in (*counts, "calibration_batches"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("steps", self.steps is None or self.steps >= 1, "at least 1, or nothing")
        for name in ("lr", "theta_lr", "barrier_weight", "prob1_weight"):
            self._require(name, getattr(self, name) > 0, "positive")
        for name in ("warmup", "adapt"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name in ("one_hot", "reopen"):
            self._require(name, 0 < getattr(self, name) < 1, "between 0 and 1")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(
                f"search.{name}: {getattr(self, name)} is out of range.", hint=f"It must be {what}."
            )
