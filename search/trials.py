"""Searching by scoring: given policies, tried one after the other without training any.

Float weights, activation scales calibrated, BatchNorm statistics taken anew, the score on the
validation split. The state on disk is what has been scored so far.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from torch import nn

from mpqdeploy.core import Policy
from mpqdeploy.data import Loader
from mpqdeploy.nn import build_float, load_checkpoint
from mpqdeploy.nn.training import evaluate, seed_everything
from mpqdeploy.search.engine import Epoch, Note, OnEvent, Problem, Result
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.post_training import BATCH, quantized_after_training
from mpqdeploy.search.reach import check_reachable

VAL_BATCHES = 16
"""Batches that a short evaluation reads."""


class Chooser(Protocol):
    """An engine that says which policies to score, all of them inside the budgets."""

    @property
    def name(self) -> str: ...

    def policies(
        self, problem: Problem, place: SearchFolder, on_event: OnEvent
    ) -> list[Policy]: ...


def best_of(
    engine: Chooser,
    problem: Problem,
    folder: Path,
    on_event: OnEvent,
    settings: Mapping[str, object],
) -> Result:
    """`SearchEngine.search` by scoring: the best of the engine's policies."""
    check_reachable(problem.tables, problem.budgets, problem.candidates)
    place = SearchFolder(folder)
    place.claim({"engine": engine.name, **problem.identity(), "settings": dict(settings)})
    found = place.finished(problem)
    if found is not None:
        return found
    policies = engine.policies(problem, place, on_event)
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
    return quantized_after_training(
        source,
        problem.spec,
        policy,
        problem.dataset,
        seed=problem.seed,
        device=problem.device,
    )


def score(problem: Problem, net: nn.Module) -> float:
    """Top-1 on a part of the validation split."""
    batches = Loader(problem.dataset, "val", batch_size=BATCH)
    return evaluate(net, islice(iter(batches), VAL_BATCHES), device=problem.device)


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
        limits={budget.metric: budget.limit for budget in problem.budgets},
        violation={budget.metric: 0.0 for budget in problem.budgets},
        argmax_cost=costs,
        val_accuracy=accuracy,
    )
