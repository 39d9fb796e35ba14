"""The `SearchEngine` seam: a problem in, a policy inside its budgets out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from mpqdeploy.core import Budget, CheckpointError, CostTable, Policy, Precision
from mpqdeploy.core.files import replacing, sha256
from mpqdeploy.data import Dataset
from mpqdeploy.nn import ModelSpec, build_quantized
from mpqdeploy.nn.training import ALONE, World, network_state, restore_network


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What to search: everything that does not depend on the engine.

    `candidates` has every site's name; a pinned site has one candidate. `tables` has a table for
    every budgeted metric (more do no harm). `checkpoint` holds float weights to start from; None
    starts from a fresh initialisation. `world`: the processes that search together, each of them
    calling the engine with a folder of its own and the same content in it.
    """

    spec: ModelSpec
    dataset: Dataset
    candidates: Mapping[str, Sequence[Precision]]
    tables: Mapping[str, CostTable]
    budgets: tuple[Budget, ...]
    seed: int = 0
    checkpoint: Path | None = None
    device: str = "auto"
    world: World = ALONE

    @property
    def budgeted(self) -> tuple[CostTable, ...]:
        """The tables that count: one per budget."""
        return tuple(self.tables[budget.metric] for budget in self.budgets)

    def costs(self, policy: Policy) -> dict[str, float]:
        """Predicted cost of a policy in every metric that has a table."""
        return {metric: table.of(policy) for metric, table in self.tables.items()}

    def inside(self, policy: Policy) -> bool:
        """Whether every budget holds for `policy`, as predicted."""
        return all(b.holds(self.tables[b.metric].of(policy)) for b in self.budgets)

    def identity(self) -> dict[str, Any]:
        """What cannot change while a search goes on."""
        data = self.dataset
        return {
            "model": [self.spec.name, self.spec.num_classes, list(self.spec.image)],
            "options": {key: str(value) for key, value in self.spec.options.items()},
            "data": [data.name, data.size("train"), data.size("search")],
            "candidates": {s: [str(p) for p in c] for s, c in self.candidates.items()},
            "seed": self.seed,
            "checkpoint": sha256(self.checkpoint) if self.checkpoint else None,
        }

    def demand(self) -> str:
        """Fingerprint of what may change from round to round: budgets and their tables."""
        content = {
            "budgets": [asdict(budget) for budget in self.budgets],
            "tables": [table.to_json() for table in self.budgeted],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line for the log."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Where a search stands after an epoch (or, for engines without epochs, after a trial).

    Costs are in each table's unit; `limits` are the budgets B searched with. `violation` is
    max(0, E[C] - B) / B per budgeted metric. `max_probability` and `entropy` (nats) are per site.
    `round` counts the calls with new tables or budgets from 0 (an engine that searches several
    times per call counts these), `epoch` from 1 within the round.
    """

    round: int
    epoch: int
    epochs: int
    seconds: float
    losses: Mapping[str, float]
    expected: Mapping[str, float]
    violation: Mapping[str, float]
    argmax_cost: Mapping[str, float]
    val_accuracy: float
    limits: Mapping[str, float] = field(default_factory=dict)
    max_probability: Mapping[str, float] = field(default_factory=dict)
    entropy: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Event = Note | Epoch
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `OnEvent` for who does not listen."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A policy inside every budget, as predicted by the problem's tables.

    `moves`: steps that the repair of an argmax network over its budget took, 0 where it was inside;
    `upgrades`: steps to wider precisions that still fitted. `searches`: how many it took; 1 but for
    engines that try. `probabilities` of the candidates as
    the search left them. `weights`: file with the quantized network's weights and
    activation scales as the search left them, for `load_network`; fine-tuning starts there.
    """

    policy: Policy
    costs: Mapping[str, float]
    moves: int
    upgrades: int
    probabilities: Mapping[str, Mapping[Precision, float]]
    history: tuple[Epoch, ...]
    weights: Path
    searches: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "policy": self.policy.to_json(),
            "costs": dict(self.costs),
            "moves": self.moves,
            "upgrades": self.upgrades,
            "searches": self.searches,
            "probabilities": {
                site: {str(p): chance for p, chance in chances.items()}
                for site, chances in self.probabilities.items()
            },
            "history": [epoch.to_json() for epoch in self.history],
            "weights": self.weights.name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], folder: Path) -> Result:
        return cls(
            policy=Policy.from_json(data["policy"]),
            costs=data["costs"],
            moves=data["moves"],
            upgrades=data["upgrades"],
            searches=data["searches"],
            probabilities={
                site: {Precision.parse(text): chance for text, chance in chances.items()}
                for site, chances in data["probabilities"].items()
            },
            history=tuple(Epoch(**epoch) for epoch in data["history"]),
            weights=folder / data["weights"],
        )


class SearchEngine(Protocol):
    """How a policy is found.

    The contract, which tests/search/test_contract.py holds every engine to:
    the policy meets every budget; the same seed gives the same policy; a search that was killed
    goes on from `folder` and ends as an uninterrupted one; a finished one returns its result at
    once; called again with other tables or budgets it goes on from where it stands.
    """

    @property
    def name(self) -> str: ...

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """Find a policy. Writes only inside `folder`.

        Raises `BudgetError` for budgets that cannot be met, before anything is trained;
        `ConfigError` where `folder` holds another problem's search; `CheckpointError` for a
        checkpoint that does not fit.
        """
        ...


def save_network(net: nn.Module, path: Path) -> None:
    """Weights, BatchNorm statistics and activation scales of a quantized network."""
    with replacing(path) as temporary:
        torch.save(network_state(net), temporary)


def load_network(spec: ModelSpec, result: Result) -> nn.Module:
    """The quantized network of a result, as the search left it. Raises `CheckpointError`."""
    if not result.weights.is_file():
        raise CheckpointError(
            f"{result.weights}: there is no such file.", hint="Run the search again."
        )
    net = build_quantized(spec, result.policy)
    state = torch.load(result.weights, map_location="cpu", weights_only=True)
    restore_network(net, state, result.weights)
    return net
