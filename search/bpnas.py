"""BP-NAS: barrier-penalty search for mixed precision (spec: arXiv 2007.10026).

One supernet, logits per site, two alternating steps; the budgets enter the logits' loss as soft
barriers, so that one search ends inside them [A]. What the paper leaves open is ours [o] and
stated where it stands: the start (`start`), the extension of the barrier (`barrier`), the schedule
(`schedule`, `settings`), the repair of the argmax network (`repair`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpqdeploy.core import Policy, Precision
from mpqdeploy.data import Loader
from mpqdeploy.nn import build_quantized, build_supernet, calibrate, load_checkpoint, transfer
from mpqdeploy.nn.training import (
    evaluate,
    network_state,
    pick_device,
    random_state,
    restore_network,
    restore_random_state,
    seed_everything,
)
from mpqdeploy.search.bilevel import SETTLE_STEPS, Bilevel
from mpqdeploy.search.cost import ExpectedCosts
from mpqdeploy.search.dominance import drop_dominated
from mpqdeploy.search.engine import Epoch, Note, OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.program import Scores
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.repair import Repaired, repair
from mpqdeploy.search.schedule import Schedule
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.start import starting_logits

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
        self._total = 0
        if self._state is None:
            self._begin()
        else:
            self._take_up(self._state)
        refit = self._round > 0
        self._schedule = Schedule(
            settings=settings,
            epochs=settings.refit_epochs if refit else settings.epochs,
            steps=settings.steps or len(self._train),
            refit=refit,
        )

    def go_on(self) -> None:
        """The remaining epochs of this round; the state is on disk after each."""
        for epoch in range(self._first, self._schedule.epochs):
            started = time.perf_counter()
            losses = self._epoch(epoch)
            self._total += 1
            if epoch + 1 == self._schedule.epochs:
                self._settle()
            event = self._measure(epoch, losses, time.perf_counter() - started)
            self._history.append(event)
            self._save(epoch + 1)
            self._tell(event)

    def result(self) -> Result:
        """Argmax, repaired where it is over; its weights out of the supernet."""
        best = self._repaired()
        if best.moves:
            self._tell(Note(message=f"argmax was over budget: {best.moves} site(s) repaired."))
        quantized = build_quantized(self._problem.spec, best.policy)
        transfer(self._net, quantized)
        result = Result(
            policy=best.policy,
            costs=self._problem.costs(best.policy),
            moves=best.moves,
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
        self._bilevel.weight_optimizer.load_state_dict(state["weight_optimizer"])
        whole = state["epochs"] == state["done"]
        if whole and state["demand"] != self._given.demand():
            self._round += 1
            self._bilevel.reopen(self._settings.reopen)
            self._tell(Note(message=f"round {self._round}: going on from the logits found so far."))
            return
        # Within a round, Adam's memory belongs to it; a new round's gradients are others.
        self._bilevel.theta_optimizer.load_state_dict(state["theta_optimizer"])
        self._first = state["done"]

    # -- running -------------------------------------------------------------------------------

    def _epoch(self, epoch: int) -> dict[str, float]:
        steps, every = self._schedule.steps, self._settings.theta_every
        train, held_out = self._batches(self._train), self._batches(self._held_out)
        sums: dict[str, list[float]] = {}
        weight = 0.0
        for step in range(steps):
            progress = self._schedule.progress(epoch, step)
            loss = self._bilevel.weight_step(*next(train), self._schedule.rate(progress))
            terms = {"train_ce": loss}
            if step % every == 0:
                weight = self._schedule.prob1_weight(progress)
                terms |= self._bilevel.theta_step(*next(held_out), weight)
            for name, value in terms.items():
                sums.setdefault(name, []).append(value)
        return {**{n: sum(v) / len(v) for n, v in sums.items()}, "prob1_weight": weight}

    def _settle(self) -> None:
        steps = self._bilevel.settle(self._settings.prob1_weight)
        decided = self._bilevel.least_decided()
        if steps == SETTLE_STEPS:
            self._tell(Note(message=f"not one-hot: least greatest probability {decided:.4f}."))
        elif steps:
            self._tell(Note(message=f"the ramp's end took {steps} more logit steps."))

    @torch.no_grad()
    def _measure(self, epoch: int, losses: dict[str, float], seconds: float) -> Epoch:
        bilevel, problem = self._bilevel, self._problem
        probabilities = bilevel.probabilities()
        expected = bilevel.costs.in_units(bilevel.costs(probabilities))
        best = self._repaired()
        self._folder.save_best(
            {"policy": best.policy.to_json(), "costs": problem.costs(best.policy)}
        )
        batches = Loader(problem.dataset, "val", batch_size=256)
        some = islice(iter(batches), self._settings.val_batches)
        return Epoch(
            round=self._round,
            epoch=epoch + 1,
            epochs=self._schedule.epochs,
            seconds=seconds,
            losses=losses,
            expected=expected,
            violation={
                b.metric: max(0.0, expected[b.metric] - b.limit) / b.limit for b in problem.budgets
            },
            argmax_cost=problem.costs(bilevel.chosen()),
            val_accuracy=evaluate(self._net, some, device=problem.device),
            max_probability={site: float(p.max()) for site, p in probabilities.items()},
            entropy={site: _entropy(p) for site, p in probabilities.items()},
        )

    def _repaired(self) -> Repaired:
        problem = self._problem
        scores: Scores = {
            site: {p: math.log(max(chance, 1e-30)) for p, chance in chances.items()}
            for site, chances in self._probabilities().items()
        }
        chosen: Policy = self._bilevel.chosen()
        return repair(chosen, scores, problem.tables, problem.budgets, problem.candidates)

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


def _entropy(probabilities: Tensor) -> float:
    return float(-(probabilities * probabilities.clamp_min(1e-30).log()).sum())
