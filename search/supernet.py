"""The supernet search: logits per site, two alternating steps, a decision.

What differs between methods is a `Method`: what an expected cost is charged, where the logits
start, and how the argmax network becomes the policy. All else, data, schedule, optimizers, state on
disk, is common to them, so that a comparison of methods compares these three alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mpqdeploy.core import Policy, Precision
from mpqdeploy.core.shard import WHOLE, Shard
from mpqdeploy.data import Loader
from mpqdeploy.nn import build_quantized, build_supernet, calibrate, load_checkpoint, transfer
from mpqdeploy.nn.training import (
    network_state,
    pick_device,
    random_state,
    restore_network,
    restore_random_state,
    seed_everything,
)
from mpqdeploy.search.bilevel import SETTLE_STEPS, Bilevel, DivergedError
from mpqdeploy.search.cost import CostTerm, ExpectedCosts
from mpqdeploy.search.decide import Decision
from mpqdeploy.search.dominance import drop_dominated
from mpqdeploy.search.engine import Epoch, Note, OnEvent, Problem, Result
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.program import Scores
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.schedule import Schedule
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.start import Logits
from mpqdeploy.search.watch import observe

_PASSES = 1000
"""Loader epochs that one search epoch may use up: each then has batches of its own."""


class Method(Protocol):
    """What one way of searching a supernet does differently from another."""

    @property
    def term(self) -> CostTerm:
        """What the logits' loss pays for expected costs."""
        ...

    def start(self, problem: Problem, on_event: OnEvent) -> Logits:
        """Logits per site to start from, `[J_i]`."""
        ...

    def decide(self, chosen: Policy, scores: Scores, problem: Problem) -> Decision:
        """The policy, given the argmax network and what each candidate is worth to the loss."""
        ...


def search_supernet(
    problem: Problem,
    settings: BpNasSettings,
    method: Method,
    place: SearchFolder,
    on_event: OnEvent,
) -> Result:
    """The result for this demand: from disk, or by going on from the state there."""
    found = place.finished(problem)
    if found is not None:
        return found
    run = SupernetSearch(problem, settings, method, place, on_event)
    run.go_on()
    return run.result()


class SupernetSearch:
    """One call of `search`: set up from scratch or from the folder, then run to the end."""

    def __init__(
        self,
        problem: Problem,
        settings: BpNasSettings,
        method: Method,
        folder: SearchFolder,
        on_event: OnEvent,
    ) -> None:
        self._given = problem
        self._settings = settings
        self._method = method
        self._folder = folder
        self._tell = on_event
        self._state = folder.load_state()
        self._problem = self._narrowed()
        # A precision dropped as no cheaper may have been the cheapest by a hair.
        check_reachable(self._problem.tables, self._problem.budgets, self._problem.candidates)
        seed_everything(problem.seed)
        device = pick_device(problem.device)
        self._net = build_supernet(problem.spec, self._problem.candidates, settings.mode).to(device)
        costs = ExpectedCosts(
            self._problem.tables, self._problem.budgets, self._problem.candidates, device=device
        )
        self._bilevel = Bilevel(self._net, costs, method.term, settings, problem.world)
        self._train = self._loader("train")
        self._held_out = self._loader("search")
        self._history: list[Epoch] = []
        self._round = self._first = 0
        self._total = self._moves = self._upgrades = 0
        if self._state is None:
            self._begin()
        else:
            self._take_up(self._state)
        # Several GPUs need not agree to the last bit on what was calibrated.
        start = problem.world.shared(network_state(self._net))
        restore_network(self._net, start, folder.path / "state.pt")
        refit = self._round > 0
        self._schedule = Schedule(
            settings=settings, steps=settings.steps or len(self._train), refit=refit
        )

    def go_on(self) -> None:
        """The remaining epochs of this round; the state is on disk after each."""
        with self._given.world.together(self._net, freezing=True) as self._bilevel.forward:
            self._go_on()

    def _go_on(self) -> None:
        for epoch in range(self._first, self._schedule.epochs):
            started = time.perf_counter()
            losses = self._epoch(epoch)
            self._total += 1
            if epoch + 1 == self._schedule.deciding:
                self._decide()
            event = Epoch(
                round=self._round,
                epoch=epoch + 1,
                epochs=self._schedule.epochs,
                seconds=time.perf_counter() - started,
                losses=losses,
                **observe(self._bilevel, self._problem, self._settings.val_batches),
            )
            best = self._best().policy
            self._folder.save_best({"policy": best.to_json(), "costs": self._problem.costs(best)})
            self._history.append(event)
            self._save(epoch + 1)
            self._tell(event)

    def result(self) -> Result:
        """The decided network, with its weights out of the supernet."""
        policy = self._bilevel.chosen()
        result = Result(
            policy=policy,
            costs=self._problem.costs(policy),
            moves=self._moves,
            upgrades=self._upgrades,
            probabilities=self._probabilities(),
            history=tuple(self._history),
            weights=self._folder.weights(self._given),
        )
        return self._folder.finish(self._given, result, self.network(policy))

    def network(self, policy: Policy) -> nn.Module:
        """`policy` with the supernet's weights and activation scales."""
        quantized = build_quantized(self._problem.spec, policy)
        transfer(self._net, quantized)
        return quantized

    def scores(self) -> Scores:
        """What each candidate is worth to the loss: the advantages so far."""
        return self._bilevel.advantages.scores()

    # -- setting up ----------------------------------------------------------------------------

    def _narrowed(self) -> Problem:
        """Without dominated candidates; as decided at the start of a search that goes on."""
        if self._state is not None:
            kept = {
                site: tuple(Precision.parse(text) for text in texts)
                for site, texts in self._state["candidates"].items()
            }
            return replace(self._given, candidates=kept)
        narrowed = drop_dominated(self._given.candidates, self._given.budgeted)
        for reason in narrowed.reasons:
            self._tell(Note(message=reason))
        return replace(self._given, candidates=narrowed.candidates)

    def _begin(self) -> None:
        problem = self._problem
        if problem.checkpoint is not None:
            load_checkpoint(self._net, problem.checkpoint)
        logits = self._method.start(problem, self._tell)
        for site, layer in self._bilevel.layers.items():
            chances = torch.softmax(torch.from_numpy(logits[site]), 0).float()
            layer.set_probabilities_(chances.clamp_min(1e-6))
        place = next(self._net.parameters()).device
        whole = self._loader("train", WHOLE)  # or each process would calibrate on its own part
        batches = islice(whole.epoch(0), self._settings.calibration_batches)
        calibrate(self._net, [images.to(place) for images, _ in batches])

    def _take_up(self, state: dict[str, Any]) -> None:
        """From the state on disk: the same round goes on, a finished one gives way to the next."""
        restore_network(self._net, state["network"], self._folder.path / "state.pt")
        restore_random_state(state["random"])
        self._history = [Epoch(**fields) for fields in state["history"]]
        self._round, self._total = state["round"], state["total"]
        self._moves, self._upgrades = state["moves"], state["upgrades"]
        self._bilevel.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._bilevel.advantages.restore(state["advantages"])
        self._bilevel.weight_arithmetic.restore(state["weight_arithmetic"])
        self._bilevel.theta_arithmetic.restore(state["theta_arithmetic"])
        if state["demand"] == self._given.demand():
            self._bilevel.theta_optimizer.load_state_dict(state["theta_optimizer"])
            self._first = state["done"]
            return
        # A new demand: a finished round gives way to the next, an unfinished one starts again from
        # here. Adam's memory is left behind: it is of other penalties' gradients.
        self._round += state["done"] == state["epochs"]
        self._bilevel.reopen(self._settings.reopen)
        self._tell(Note(message=f"round {self._round}: going on from the logits found so far."))

    # -- running -------------------------------------------------------------------------------

    def _epoch(self, epoch: int) -> dict[str, float]:
        """Means over the epoch of every loss, and lambda at its end."""
        plan, bilevel = self._schedule, self._bilevel
        train, held_out = self._batches(self._train), self._batches(self._held_out)
        sums: dict[str, list[float]] = {}
        weight = 0.0
        for step in range(plan.steps):
            try:
                terms = {"train_ce": bilevel.weight_step(*next(train), plan.rate(epoch, step))}
                if epoch < plan.deciding and step % self._settings.theta_every == 0:
                    weight = plan.prob1_weight(epoch, step)
                    note = plan.warming_up(epoch, step)
                    terms |= bilevel.theta_step(*next(held_out), weight, note=note)
            except DivergedError as error:
                raise error.at(epoch=epoch + 1, step=step + 1) from error
            for name, value in terms.items():
                sums.setdefault(name, []).append(value)
        if not bilevel.finite():
            # Or the next state on disk would be of no use.
            raise DivergedError("a weight").at(epoch=epoch + 1, step=plan.steps)
        return {**{n: sum(v) / len(v) for n, v in sums.items()}, "prob1_weight": weight}

    def _decide(self) -> None:
        """One-hot, then from the argmax network to the policy, as the method does it."""
        bilevel = self._bilevel
        steps = bilevel.settle(self._settings.prob1_weight)
        decided = bilevel.least_decided()
        if steps == SETTLE_STEPS and decided <= self._settings.one_hot:
            self._tell(Note(message=f"not one-hot: least greatest probability {decided:.4f}."))
        elif steps == SETTLE_STEPS:
            self._tell(Note(message="one-hot, but over a budget: left to the repair."))
        elif steps:
            self._tell(Note(message=f"the ramp's end took {steps} more logit steps."))
        best = self._best()
        self._moves, self._upgrades = best.moves, best.upgrades
        bilevel.adopt(best.policy)
        self._tell(Note(message=f"decided: {best.moves} repairs, {best.upgrades} upgrades."))

    def _best(self) -> Decision:
        """What the argmax network of this moment would be decided to."""
        return self._method.decide(self._bilevel.chosen(), self.scores(), self._problem)

    @torch.no_grad()
    def _probabilities(self) -> dict[str, dict[Precision, float]]:
        return {
            site: dict(zip(layer.candidates, layer.probabilities().tolist(), strict=True))
            for site, layer in self._bilevel.layers.items()
        }

    def _save(self, done: int) -> None:
        self._folder.save_state(
            {
                "demand": self._given.demand(),
                "candidates": {s: [str(p) for p in c] for s, c in self._problem.candidates.items()},
                "round": self._round,
                "done": done,
                "epochs": self._schedule.epochs,
                "total": self._total,
                "moves": self._moves,
                "upgrades": self._upgrades,
                "advantages": self._bilevel.advantages.state(),
                "history": [epoch.to_json() for epoch in self._history],
                "network": network_state(self._net),
                "weight_optimizer": self._bilevel.weight_optimizer.state_dict(),
                "theta_optimizer": self._bilevel.theta_optimizer.state_dict(),
                "weight_arithmetic": self._bilevel.weight_arithmetic.state(),
                "theta_arithmetic": self._bilevel.theta_arithmetic.state(),
                "random": random_state(),
            }
        )

    # -- data ----------------------------------------------------------------------------------

    def _loader(self, split: str, shard: Shard | None = None) -> Loader:
        return Loader.training(
            self._given.dataset,
            "train" if split == "train" else "search",
            batch_size=self._settings.batch_size,
            seed=self._given.seed,
            shard=shard or self._given.world.shard,
        )

    def _batches(self, loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without end, others in every epoch of the search, the same when it resumes."""
        for one in range(_PASSES):
            yield from loader.epoch(self._total * _PASSES + one)
