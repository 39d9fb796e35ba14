"""The two alternating steps of BP-NAS: logits on held-out images, weights on the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn, optim

from mpqdeploy.core import Policy
from mpqdeploy.nn import SearchLayer, scale_clip_, site_layers, task_of
from mpqdeploy.nn.training import (
    ALONE,
    Arithmetic,
    Recipe,
    TrainingError,
    World,
    make_optimizer,
    set_rate,
)
from mpqdeploy.nn.training.device import home
from mpqdeploy.search.advantage import Advantages, axes
from mpqdeploy.search.cost import CostTerm, ExpectedCosts
from mpqdeploy.search.prob1 import prob1
from mpqdeploy.search.settings import BpNasSettings

SETTLE_STEPS = 2000
_GROWTH = 2**0.01
_TIE = 1e-3


class DivergedError(TrainingError):
    """A loss or a weight that is no number any more."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(
            f"the search diverged: {what} is not finite{where}.",
            hint="Lower search.lr or search.theta_lr; the state after the last epoch is kept.",
        )
        self.what = what

    def at(self, *, epoch: int, step: int) -> DivergedError:
        """The same error with its place, both counted from 1."""
        return DivergedError(self.what, f" at step {step} of epoch {epoch}")


class Bilevel:
    """A supernet with its two optimizers, what its distributions cost and what that is charged."""

    def __init__(
        self,
        net: nn.Module,
        costs: ExpectedCosts,
        term: CostTerm,
        settings: BpNasSettings,
        world: World = ALONE,
    ) -> None:
        self.net = net
        self.forward = net
        """What training calls: `world.together` gives it where several processes train."""
        self._world = world
        self.layers: Mapping[str, SearchLayer] = site_layers(net)
        self.costs = costs
        self._settings = settings
        self._place = home(net)
        self._term = term
        # A scale of the loss for each level: their gradients differ by orders of magnitude.
        self.weight_arithmetic = Arithmetic(settings.amp, self._place)
        self.theta_arithmetic = Arithmetic(settings.amp, self._place)
        self._pinned = [name for name, layer in self.layers.items() if len(layer.candidates) == 1]
        self.advantages = Advantages(self.layers)
        split = _split(net)
        self.decided = not split[1]
        self._weights = [parameter for _, parameter in split[0]]
        self._logits = split[1]
        recipe = Recipe(
            lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.weight_optimizer = make_optimizer(split[0], recipe)
        # A short memory of squares: the gradients shrink by orders of magnitude towards one-hot.
        self.theta_optimizer = optim.Adam(
            self._logits or [torch.zeros(1)], lr=settings.theta_lr, betas=(0.9, 0.99)
        )

    def probabilities(self) -> dict[str, Tensor]:
        return {name: layer.probabilities() for name, layer in self.layers.items()}

    def chosen(self) -> Policy:
        """The argmax network."""
        return Policy(precisions={name: layer.chosen() for name, layer in self.layers.items()})

    def weight_step(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """One SGD step on the cross-entropy, then Scale-Clip; the loss before the step."""
        set_rate(self.weight_optimizer, rate)
        with _frozen(self._logits):
            loss = self._loss(images, labels, self.weight_arithmetic)
            self.weight_optimizer.zero_grad(set_to_none=True)
            self.weight_arithmetic.backward(loss)
        value = self._finite(loss, "the weights' loss")
        self.weight_arithmetic.step(self.weight_optimizer)
        if self._settings.reshape:
            scale_clip_(self.net, skip=self._pinned)
        return value

    def theta_step(
        self, images: Tensor, labels: Tensor, weight: float, *, note: bool
    ) -> dict[str, float]:
        """One Adam step on CE + cost terms + `weight` * L_p; the three terms before the step.

        `note`: take the step's cross-entropy gradients into the advantages.
        """
        self.theta_optimizer.zero_grad(set_to_none=True)
        with _frozen(self._weights):
            cross_entropy = self._loss(images, labels, self.theta_arithmetic)
            value = self._finite(cross_entropy, "the logits' loss")
            self.theta_arithmetic.backward(cross_entropy)
        self.theta_arithmetic.unscale(self.theta_optimizer)
        if note and self._gradients_are_finite():
            self.advantages.note()
        cost, one_hot = self._penalties()
        penalty = cost + weight * one_hot
        penalty.backward()  # type: ignore[no-untyped-call]
        self.theta_arithmetic.step(self.theta_optimizer)
        return {
            "search_ce": value,
            "cost": cost.item(),
            "prob1": one_hot.item(),
        }

    def settle(self, weight: float) -> int:
        """Logit steps without images until the argmax network is inside and every site one-hot.

        The end of the ramp, lambda -> infinity, where the cross-entropy no longer counts: a step
        costs microseconds [o]. A fixed ratio of lambda to the barrier can come to rest with a site
        undecided at the budget, or decided beyond it, so the weaker of the two grows, doubling
        every 100 steps: the barrier while the argmax network is outside, lambda otherwise. The two
        do not undo each other: once the argmax network is inside, Prob-1 holds it there.
        Factorized logits can be one-hot outside at a pair that neither axis alone makes cheaper,
        4/4 say where 2/4 and 4/2 are no candidates: there they are softened, and both move.
        Returns how many steps it took; stops at `SETTLE_STEPS` in any case.
        """
        strength = 1.0
        for step in range(SETTLE_STEPS):
            outside = not self.costs.inside(self.chosen())
            decided = self.least_decided() > self._settings.one_hot
            if decided and not outside:
                return step
            if outside:
                strength *= _GROWTH
                if decided and self._settings.mode == "factorized":
                    self.reopen(self._settings.reopen)
            else:
                weight *= _GROWTH
            cost, one_hot = self._penalties()
            self.theta_optimizer.zero_grad(set_to_none=True)
            total = strength * cost + weight * one_hot
            total.backward()  # type: ignore[no-untyped-call]
            self.theta_optimizer.step()
        return SETTLE_STEPS

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether every weight and logit is a number."""
        return all(bool(parameter.isfinite().all()) for parameter in self.net.parameters())

    @torch.no_grad()
    def least_decided(self) -> float:
        """The least over all distributions of the greatest probability."""
        return min(float(p.max()) for p in self._distributions())

    @torch.no_grad()
    def adopt(self, policy: Policy) -> None:
        """Make `policy` the argmax network, the distributions as spread as they were.

        In each logit vector the greatest entry and the policy's swap places. The greatest, not the
        argmax candidate's: factorized axes may peak at a pair that is no candidate, and then the
        mixture computes with that pair whatever the probabilities say.
        """
        for site, layer in self.layers.items():
            for logits, index in zip(layer.logits, axes(layer, policy[site]), strict=True):
                top = int(logits.argmax())
                logits[[top, index]] = logits[[index, top]]
                if int((logits == logits[index]).sum()) > 1:
                    logits[index] += _TIE

    @torch.no_grad()
    def reopen(self, ceiling: float) -> None:
        """Soften every distribution until its greatest probability is at most `ceiling`.

        The logits are scaled down together, so their order, the search's preference, stays.
        """
        for layer in self.layers.values():
            if len(layer.candidates) == 1:
                continue
            before = [logits.clone() for logits in layer.logits]
            low, high = 0.0, 1.0
            for _ in range(30):
                middle = (low + high) / 2
                _scale(layer, before, middle)
                low, high = (
                    (middle, high)
                    if max(float(p.max()) for p in _open(layer)) <= ceiling
                    else (low, middle)
                )
            _scale(layer, before, low)

    def _loss(self, images: Tensor, targets: Tensor, arithmetic: Arithmetic) -> Tensor:
        """The task's loss: cross-entropy for a classifier."""
        with arithmetic.autocast():
            outputs = self.forward(images.to(self._place))
        return task_of(self.net).judge(outputs, targets.to(self._place)).loss

    def _finite(self, loss: Tensor, what: str) -> float:
        """Its mean over all processes, which then agree on whether to go on."""
        value = self._world.mean(loss).item()
        if not math.isfinite(value):
            raise DivergedError(what)
        return value

    def _gradients_are_finite(self) -> bool:
        """False where a scaled loss overflowed in float16: that step is left out."""
        gradients = [logits.grad for logits in self._logits if logits.grad is not None]
        return all(bool(gradient.isfinite().all()) for gradient in gradients)

    def _penalties(self) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities()
        penalty = self._term(self.costs(probabilities), self.costs.limits)
        free = self.costs.free.to(penalty.device)
        return penalty[free].sum(), prob1(self._distributions())

    def _distributions(self) -> list[Tensor]:
        return [p for layer in self.layers.values() for p in layer.distributions()]


def _split(net: nn.Module) -> tuple[list[tuple[str, nn.Parameter]], list[nn.Parameter]]:
    """Named weights, and the logits of the sites that have a choice."""
    open_logits = [
        logits
        for layer in site_layers(net).values()
        if len(layer.candidates) > 1
        for logits in layer.logits
    ]
    weights = [(n, p) for n, p in net.named_parameters() if "logits" not in n.split(".")]
    return weights, open_logits


def _open(layer: SearchLayer) -> list[Tensor]:
    """The distributions of a layer that have a choice."""
    return [p for p in layer.distributions() if len(p) > 1]


def _scale(layer: SearchLayer, before: list[Tensor], factor: float) -> None:
    for logits, old in zip(layer.logits, before, strict=True):
        logits.copy_(factor * old)


@contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """No gradients for these: the other level's backward pass is not needed."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
