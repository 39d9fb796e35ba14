"""BP-NAS: barrier-penalty search for mixed precision (arXiv 2007.10026).

One supernet, logits per site, two alternating steps; the budgets enter the logits' loss as soft
barriers, so that one search ends inside them [A]. What the paper leaves open is ours [o] and
stated where it stands: the start (`start`), the extension of the barrier (`barrier`), the schedule
(`schedule`, `settings`), the repair of the argmax network (`repair`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpqdeploy.core import Precision
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
from mpqdeploy.search.bilevel import SETTLE_STEPS, Bilevel
from mpqdeploy.search.cost import ExpectedCosts
from mpqdeploy.search.decide import Decision, decide
from mpqdeploy.search.dominance import drop_dominated
from mpqdeploy.search.engine import Epoch, Note, OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.schedule import Schedule
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.start import starting_logits
from mpqdeploy.search.watch import observe

_PASSES = 1000
"""Loader epochs that one search epoch may use up: each then has batches of its own."""


class BpNas:
    """The engine: see the module. `settings` are part of what a folder's search is."""

    name = "bpnas"

    def __init__(self, settings: BpNasSettings | None = None) -> None:
        self.settings = settings or BpNasSettings()

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        place = SearchFolder(folder)
        check_reachable(problem.tables, problem.budgets, problem.candidates)
        place.claim({"engine": self.name, **problem.identity(), "settings": vars(self.settings)})
        found = place.finished(problem)
        if found is not None:
            return found
        run = _Search(problem, self.settings, place, on_event)
        run.go_on()
        return run.result()


class _Search:
    """One call of `search`: set up from scratch or from the folder, then run to the end."""

    def __init__(
        self, problem: Problem, settings: BpNasSettings, folder: SearchFolder, on_event: OnEvent
    ) -> None:
        self._given = problem
        self._settings = settings
        self._folder = folder
        self._tell = on_event
        self._state = folder.load_state()
        self._problem = self._narrowed()
        self._reach = check_reachable(
            self._problem.tables, self._problem.budgets, self._problem.candidates
        )
        seed_everything(problem.seed)
        device = pick_device(problem.device)
        self._net = build_supernet(problem.spec, self._problem.candidates, settings.mode).to(device)
        costs = ExpectedCosts(
            self._problem.tables, self._problem.budgets, self._problem.candidates, device=device
        )
        self._bilevel = Bilevel(self._net, costs, settings)
        self._train = self._loader("train")
        self._held_out = self._loader("search")
        self._history: list[Epoch] = []
        self._round = self._first = 0
        self._total = self._moves = self._upgrades = 0
        if self._state is None:
            self._begin()
        else:
            self._take_up(self._state)
        refit = self._round > 0
        self._schedule = Schedule(
            settings=settings, steps=settings.steps or len(self._train), refit=refit
        )

    def go_on(self) -> None:
        """The remaining epochs of this round; the state is on disk after each."""
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
        quantized = build_quantized(self._problem.spec, policy)
        transfer(self._net, quantized)
        result = Result(
            policy=policy,
            costs=self._problem.costs(policy),
            moves=self._moves,
            upgrades=self._upgrades,
            probabilities=self._probabilities(),
            history=tuple(self._history),
            weights=self._folder.weights(self._given),
        )
        return self._folder.finish(self._given, result, quantized)

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
        logits = starting_logits(problem.tables, problem.budgets, problem.candidates)
        for site, layer in self._bilevel.layers.items():
            chances = torch.softmax(torch.from_numpy(logits[site]), 0).float()
            layer.set_probabilities_(chances.clamp_min(1e-6))
        place = next(self._net.parameters()).device
        batches = islice(self._train.epoch(0), self._settings.calibration_batches)
        calibrate(self._net, [images.to(place) for images, _ in batches])
        for one in self._reach:
            self._tell(
                Note(
                    message=f"{one.metric}: {one.least:.6g} to {one.greatest:.6g} {one.unit} "
                    f"reachable, budget {one.limit:.6g} ({100 * min(one.room, 1):.0f} % of the "
                    "range)."
                )
            )

    def _take_up(self, state: dict[str, Any]) -> None:
        """From the state on disk: the same round goes on, a finished one gives way to the next."""
        restore_network(self._net, state["network"], self._folder.path / "state.pt")
        restore_random_state(state["random"])
        self._history = [Epoch(**fields) for fields in state["history"]]
        self._round, self._total = state["round"], state["total"]
        self._moves, self._upgrades = state["moves"], state["upgrades"]
        self._bilevel.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._bilevel.advantages.restore(state["advantages"])
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
            terms = {"train_ce": bilevel.weight_step(*next(train), plan.rate(epoch, step))}
            if epoch < plan.deciding and step % self._settings.theta_every == 0:
                weight = plan.prob1_weight(epoch, step)
                note = plan.warming_up(epoch, step)
                terms |= bilevel.theta_step(*next(held_out), weight, note=note)
            for name, value in terms.items():
                sums.setdefault(name, []).append(value)
        return {**{n: sum(v) / len(v) for n, v in sums.items()}, "prob1_weight": weight}

    def _decide(self) -> None:
        """One-hot, then the argmax network brought inside the budgets and up to them."""
        bilevel = self._bilevel
        steps = bilevel.settle(self._settings.prob1_weight)
        decided = bilevel.least_decided()
        if steps == SETTLE_STEPS:
            self._tell(Note(message=f"not one-hot: least greatest probability {decided:.4f}."))
        elif steps:
            self._tell(Note(message=f"the ramp's end took {steps} more logit steps."))
        best = self._best()
        self._moves, self._upgrades = best.moves, best.upgrades
        bilevel.adopt(best.policy)
        self._tell(Note(message=f"decided: {best.moves} repairs, {best.upgrades} upgrades."))

    def _best(self) -> Decision:
        """The argmax network of this moment, inside the budgets."""
        problem = self._problem
        return decide(
            self._bilevel.chosen(),
            self._bilevel.advantages.scores(),
            problem.tables,
            problem.budgets,
            problem.candidates,
            use_rest=self._settings.spend,
        )

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
                "random": random_state(),
            }
        )

    # -- data ----------------------------------------------------------------------------------

    def _loader(self, split: str) -> Loader:
        return Loader.training(
            self._given.dataset,
            "train" if split == "train" else "search",
            batch_size=self._settings.batch_size,
            seed=self._given.seed,
        )

    def _batches(self, loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without end, others in every epoch of the search, the same when it resumes."""
        for one in range(_PASSES):
            yield from loader.epoch(self._total * _PASSES + one)
