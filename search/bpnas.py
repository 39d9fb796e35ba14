"""BP-NAS: barrier-penalty search for mixed precision (arXiv 2007.10026).

One supernet, logits per site, two alternating steps (`supernet`); the budgets enter the logits'
loss as soft barriers, so that one search ends inside them [A]. What the paper leaves open is ours
[o] and stated where it stands: the start (`start`), the extension of the barrier (`barrier`), the
schedule (`schedule`, `settings`), the repair of the argmax network (`repair`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpqdeploy.core import Policy
from mpqdeploy.search.barrier import Barrier
from mpqdeploy.search.cost import CostTerm
from mpqdeploy.search.decide import Decision, decide
from mpqdeploy.search.engine import Note, OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.program import Scores
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.start import Logits, starting_logits
from mpqdeploy.search.supernet import search_supernet


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
        barrier = Barrier(kind=self.settings.barrier, weight=self.settings.barrier_weight)
        method = InsideBarriers(term=barrier, spend=self.settings.spend)
        return search_supernet(problem, self.settings, method, place, on_event)


@dataclass(frozen=True, kw_only=True)
class InsideBarriers:
    """Start inside every budget, pay the barrier, end inside: see `supernet.Method`."""

    term: CostTerm
    spend: bool

    def start(self, problem: Problem, on_event: OnEvent) -> Logits:
        for one in check_reachable(problem.tables, problem.budgets, problem.candidates):
            on_event(
                Note(
                    message=f"{one.metric}: {one.least:.6g} to {one.greatest:.6g} {one.unit} "
                    f"reachable, budget {one.limit:.6g} ({100 * min(one.room, 1):.0f} % of the "
                    "range)."
                )
            )
        return starting_logits(problem.tables, problem.budgets, problem.candidates)

    def decide(self, chosen: Policy, scores: Scores, problem: Problem) -> Decision:
        return decide(
            chosen,
            scores,
            problem.tables,
            problem.budgets,
            problem.candidates,
            use_rest=self.spend,
        )
