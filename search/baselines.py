"""Engines to compare with: one precision for all sites, and the best of random policies.

Both score a policy without training it: float weights, activation scales calibrated, BatchNorm
statistics taken anew, top-1 on the validation split.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from mpqdeploy.core import BudgetError, Policy, Precision
from mpqdeploy.data import Loader
from mpqdeploy.nn import build_float, build_quantized, calibrate, load_checkpoint, transfer
from mpqdeploy.nn.training import evaluate, pick_device, recalibrate_batchnorm, seed_everything
from mpqdeploy.search.engine import Epoch, Note, OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.repair import repair

BATCH = 64
CALIBRATION_BATCHES = 4
VAL_BATCHES = 16
"""Batches that a short evaluation reads."""


class Uniform:
    """The best-scored uniform policy inside the budgets; pinned sites keep their own precision.

    A precision that some site does not offer is no uniform policy. Where no uniform policy is
    inside, `BudgetError`: a mixed one might be, which is the point of a search.
    """

    name = "uniform"

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        return _search(self, problem, folder, on_event, {})

    def policies(self, problem: Problem) -> list[Policy]:
        free = [choices for choices in problem.candidates.values() if len(choices) > 1]
        shared = [p for p in (free[0] if free else ()) if all(p in choices for choices in free)]
        made = [_uniform(problem, precision) for precision in shared] or [_uniform(problem, None)]
        inside = [policy for policy in made if problem.inside(policy)]
        if not inside:
            raise BudgetError(
                "no uniform precision meets the budgets: "
                + "; ".join(_costs(problem, policy) for policy in made)
                + ".",
                hint="Search for a mixed one, or raise the budget.",
            )
        return inside


class Random:
    """The best-scored of `trials` policies drawn at random and repaired into the budgets.

    Drawn uniformly per site; one that is over is brought inside by greedy repair with random
    scores, so that tight budgets, which almost no draw meets, get their trials too [o].
    """

    name = "random"

    def __init__(self, trials: int = 16) -> None:
        self.trials = trials

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        return _search(self, problem, folder, on_event, {"trials": self.trials})

    def policies(self, problem: Problem) -> list[Policy]:
        rng = np.random.default_rng(problem.seed)
        return [_draw(problem, rng) for _ in range(self.trials)]


class _Baseline(Protocol):
    @property
    def name(self) -> str: ...

    def policies(self, problem: Problem) -> list[Policy]: ...


def _search(
    engine: _Baseline,
    problem: Problem,
    folder: Path,
    on_event: OnEvent,
    settings: dict[str, int],
) -> Result:
    check_reachable(problem.tables, problem.budgets, problem.candidates)
    place = SearchFolder(folder)
    policies = engine.policies(problem)
    place.claim({"engine": engine.name, **problem.identity(), "settings": settings})
    found = place.finished(problem)
    if found is not None:
        return found
    history = _score_all(problem, policies, place, on_event)
    best = max(range(len(policies)), key=lambda index: history[index].val_accuracy)
    result = Result(
        policy=policies[best],
        costs=problem.costs(policies[best]),
        moves=0,
        upgrades=0,
        probabilities={
            site: {p: float(p == policies[best][site]) for p in choices}
            for site, choices in problem.candidates.items()
        },
        history=tuple(history),
        weights=place.weights(problem),
    )
    return place.finish(problem, result, quantized(problem, policies[best]))


def _score_all(
    problem: Problem, policies: Sequence[Policy], place: SearchFolder, on_event: OnEvent
) -> list[Epoch]:
    """One `Epoch` per policy; those that the state on disk has are not scored again."""
    state = place.load_state() or {}
    done = state.get("history", []) if state.get("demand") == problem.demand() else []
    history = [Epoch(**fields) for fields in done]
    if problem.checkpoint is None and not history:
        on_event(Note(message="no checkpoint: the scores are those of untrained weights."))
    for index in range(len(history), len(policies)):
        started = time.perf_counter()
        policy = policies[index]
        accuracy = score(problem, quantized(problem, policy))
        event = _event(problem, policy, index, len(policies), accuracy, started)
        history.append(event)
        place.save_state(
            {"demand": problem.demand(), "history": [epoch.to_json() for epoch in history]}
        )
        on_event(event)
    return history


def quantized(problem: Problem, policy: Policy) -> nn.Module:
    """`policy` on the checkpoint's weights, calibrated, BatchNorm statistics taken anew."""
    seed_everything(problem.seed)
    source = build_float(problem.spec)
    if problem.checkpoint is not None:
        load_checkpoint(source, problem.checkpoint)
    net = build_quantized(problem.spec, policy).to(pick_device(problem.device))
    missing = transfer(source, net)
    loader = Loader(problem.dataset, "train", batch_size=BATCH, shuffle=True, seed=problem.seed)
    device = next(net.parameters()).device
    images = [x.to(device) for x, _ in islice(iter(loader), CALIBRATION_BATCHES)]
    calibrate(net, images, only=missing)
    recalibrate_batchnorm(net, iter(loader), limit=CALIBRATION_BATCHES)
    return net


def score(problem: Problem, net: nn.Module) -> float:
    """Top-1 on a part of the validation split."""
    batches = Loader(problem.dataset, "val", batch_size=BATCH)
    return evaluate(net, islice(iter(batches), VAL_BATCHES), device=problem.device)


def _uniform(problem: Problem, precision: Precision | None) -> Policy:
    return Policy(
        precisions={
            site: choices[0] if len(choices) == 1 or precision is None else precision
            for site, choices in problem.candidates.items()
        }
    )


def _draw(problem: Problem, rng: np.random.Generator) -> Policy:
    drawn = {s: c[int(rng.integers(len(c)))] for s, c in problem.candidates.items()}
    scores = {s: {p: float(rng.random()) for p in c} for s, c in problem.candidates.items()}
    return repair(
        Policy(precisions=drawn), scores, problem.tables, problem.budgets, problem.candidates
    ).policy


def _event(
    problem: Problem, policy: Policy, index: int, count: int, accuracy: float, started: float
) -> Epoch:
    costs = problem.costs(policy)
    return Epoch(
        round=0,
        epoch=index + 1,
        epochs=count,
        seconds=time.perf_counter() - started,
        losses={},
        expected={budget.metric: costs[budget.metric] for budget in problem.budgets},
        violation={budget.metric: 0.0 for budget in problem.budgets},
        argmax_cost=costs,
        val_accuracy=accuracy,
    )


def _costs(problem: Problem, policy: Policy) -> str:
    precision = next(
        (str(policy[s]) for s, c in problem.candidates.items() if len(c) > 1), "the pinned sites"
    )
    costs = (f"{problem.tables[b.metric].of(policy):.6g}" for b in problem.budgets)
    limits = (f"{b.metric} limit {b.limit:.6g}" for b in problem.budgets)
    return f"{precision} costs {', '.join(costs)} ({', '.join(limits)})"
