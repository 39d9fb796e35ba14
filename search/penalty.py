"""The penalty that the barrier replaces: lambda * E[C] added to the logits' loss.

The same supernet search as BP-NAS but for three things: the logits pay a price per cost whatever
the budget is, they start uniform, and the argmax network is the result as it is. The price says
nothing about where that network ends, so meeting a budget takes a search over searches [F]: lambda
is quadrupled or quartered until searches have ended on both sides of the budget, then bisected on
a logarithmic scale. It ends with a network that is inside and uses `ENOUGH` of the room, or after
`searches` searches; `Result.searches` says how many there were. Where all of them ended outside,
the one that paid most is repaired greedily, and `Result.moves`, 0 otherwise, says by how much.

E[C] is normalised to the reachable range, so budgets and a table's offset and scale leave a search
as it is: a later call with a corrected table decides over the searches made before, and goes on
with lambda from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from mpqdeploy.core import Budget, ConfigError, Policy
from mpqdeploy.search.decide import Decision
from mpqdeploy.search.engine import (
    Epoch,
    Event,
    Note,
    OnEvent,
    Problem,
    Result,
    ignore,
    load_network,
)
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.program import Scores
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.repair import repair
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.start import Logits
from mpqdeploy.search.supernet import SupernetSearch, search_supernet

STRIDE = 4.0
"""Factor between prices while all searches have ended on one side of the budget [o]."""

ENOUGH = 0.9
"""Share of the room above the cheapest network that is not worth another search [o]."""


class Penalty:
    """The engine: see the module. `weight` is the first lambda, per normalised cost."""

    name = "penalty"

    def __init__(
        self, settings: BpNasSettings | None = None, *, weight: float = 0.01, searches: int = 8
    ) -> None:
        if weight <= 0:
            raise ConfigError(
                f"search.penalty_weight: {weight} is out of range.", hint="It must be positive."
            )
        if searches < 1:
            raise ConfigError(
                f"search.penalty_searches: {searches} is out of range.",
                hint="It must be at least 1.",
            )
        self.settings = settings or BpNasSettings()
        self.weight = weight
        self.searches = searches

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        check_reachable(problem.tables, problem.budgets, problem.candidates)
        place = SearchFolder(folder)
        settings = {**vars(self.settings), "weight": self.weight, "searches": self.searches}
        place.claim({"engine": self.name, **problem.identity(), "settings": settings})
        return place.finished(problem) or _Hunt(self, problem, place, on_event).result()


@dataclass(frozen=True, kw_only=True)
class Price:
    """The cost term `weight * E[C]`, normalised, whatever the budget is."""

    weight: float

    def __call__(self, expected: Tensor, limit: Tensor) -> Tensor:
        return self.weight * expected


@dataclass(frozen=True, kw_only=True)
class _Priced:
    """Start uniform, pay the price, end where that leads: see `supernet.Method`."""

    term: Price

    def start(self, problem: Problem, on_event: OnEvent) -> Logits:
        return {site: np.zeros(len(choices)) for site, choices in problem.candidates.items()}

    def decide(self, chosen: Policy, scores: Scores, problem: Problem) -> Decision:
        return Decision(policy=chosen, moves=0, upgrades=0)


class _Hunt:
    """The searches for one demand, together with those of earlier demands on the same tables."""

    def __init__(
        self, engine: Penalty, problem: Problem, place: SearchFolder, on_event: OnEvent
    ) -> None:
        self._engine = engine
        self._problem = problem
        self._priced = _without_limits(problem)
        self._place = place
        self._tell = on_event
        self._state = place.load_state() or {"searched": {}, "before": {}}
        # By lambda, in the order in which they were made.
        self._results = {
            weight: self._search(index, weight) for index, weight in enumerate(self._weights)
        }

    def result(self) -> Result:
        """Search until a network inside is good enough, or the searches are used up."""
        before = self._state["before"].setdefault(self._problem.demand(), len(self._results))
        while len(self._results) - before < self._engine.searches and not self._done():
            index = len(self._results)
            sides = {w: self._problem.inside(r.policy) for w, r in self._results.items()}
            weight = next_weight(sides) if sides else self._engine.weight
            self._tell(Note(message=f"search {index + 1}: lambda {weight:.4g}."))
            self._results[weight] = self._search(index, weight)
            self._weights.append(weight)
            self._place.save_state(self._state)
        return self._finish()

    @property
    def _weights(self) -> list[float]:
        found: list[float] = self._state["searched"].setdefault(self._priced.demand(), [])
        return found

    def _search(self, index: int, weight: float) -> Result:
        return search_supernet(
            self._priced,
            self._engine.settings,
            _Priced(term=Price(weight=weight)),
            self._folder(weight),
            lambda event: self._tell(self._translated(event, index)),
        )

    def _folder(self, weight: float) -> SearchFolder:
        return SearchFolder(self._place.path / f"{self._priced.demand()}-{weight:.9g}")

    def _translated(self, event: Event, index: int) -> Event:
        """A search's event in the problem's own tables and budgets; the searches are its rounds."""
        if isinstance(event, Note):
            return event
        expected = self._in_units(event.expected)
        budgets = self._problem.budgets
        return replace(
            event,
            round=index,
            expected=expected,
            limits={b.metric: b.limit for b in budgets},
            violation={b.metric: max(0.0, expected[b.metric] / b.limit - 1) for b in budgets},
            argmax_cost={**event.argmax_cost, **self._in_units(event.argmax_cost)},
        )

    def _in_units(self, costs: Mapping[str, float]) -> dict[str, float]:
        tables = self._problem.budgeted
        return {t.metric: t.offset + t.scale * costs[t.metric] for t in tables}

    def _done(self) -> bool:
        return any(used(self._problem, r.policy) >= ENOUGH for r in self._inside().values())

    def _inside(self) -> dict[float, Result]:
        return {w: r for w, r in self._results.items() if self._problem.inside(r.policy)}

    def _finish(self) -> Result:
        inside = self._inside()
        if inside:
            # Of equally dear networks the one that paid less had more say in the matter.
            weight = max(inside, key=lambda w: (used(self._problem, inside[w].policy), -w))
            policy, moves = inside[weight].policy, 0
            net = load_network(self._problem.spec, inside[weight])
        else:
            weight = max(self._results)
            policy, moves, net = self._repaired(weight)
        history = [
            self._translated(epoch, index)
            for index, found in enumerate(self._results.values())
            for epoch in found.history
        ]
        result = Result(
            policy=policy,
            costs=self._problem.costs(policy),
            moves=moves,
            upgrades=0,
            searches=len(self._results),
            probabilities=self._results[weight].probabilities,
            history=tuple(epoch for epoch in history if isinstance(epoch, Epoch)),
            weights=self._place.weights(self._problem),
        )
        return self._place.finish(self._problem, result, net)

    def _repaired(self, weight: float) -> tuple[Policy, int, nn.Module]:
        """The search with the highest price, brought inside by greedy repair."""
        found = self._results[weight]
        run = SupernetSearch(
            self._priced,
            self._engine.settings,
            _Priced(term=Price(weight=weight)),
            self._folder(weight),
            ignore,
        )
        left = {site: tuple(chances) for site, chances in found.probabilities.items()}
        tables, budgets = self._problem.tables, self._problem.budgets
        repaired = repair(found.policy, run.scores(), tables, budgets, left)
        self._tell(
            Note(
                message=f"none of {len(self._results)} searches ended inside: the one with lambda "
                f"{weight:.4g} is repaired by {repaired.moves} moves."
            )
        )
        return repaired.policy, repaired.moves, run.network(repaired.policy)


def next_weight(sides: Mapping[float, bool]) -> float:
    """The lambda to try next; `sides` says of those tried which ended inside the budgets."""
    inside = min((w for w, holds in sides.items() if holds), default=None)
    if inside is None:
        return max(sides) * STRIDE
    outside = max((w for w, holds in sides.items() if not holds and w < inside), default=None)
    return inside / STRIDE if outside is None else math.sqrt(inside * outside)


def used(problem: Problem, policy: Policy) -> float:
    """How much of its room a policy uses: 0 at the cheapest network, 1 at a budget or the dearest.

    The greatest over the budgets; above 1 outside.
    """
    shares = [1.0 if not problem.budgets else 0.0]
    for budget in problem.budgets:
        table = problem.tables[budget.metric]
        least, greatest = table.bounds(problem.candidates)
        room = min(budget.limit, greatest) - least
        shares.append((table.of(policy) - least) / room if room > 0 else 1.0)
    return max(shares)


def _without_limits(problem: Problem) -> Problem:
    """The same search whatever the budgets' limits, offsets and scales are: lambda has those."""
    tables = {t.metric: replace(t, offset=0.0, scale=1.0) for t in problem.budgeted}
    budgets = tuple(
        Budget(metric=b.metric, limit=tables[b.metric].bounds(problem.candidates)[1])
        for b in problem.budgets
    )
    return replace(problem, tables=tables, budgets=budgets)
