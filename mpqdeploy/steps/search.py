"""Search, draft, refit: around the loop until a draft, as measured, is inside the budgets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mpqdeploy.core import CostTable, Policy
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.results import Round, Row
from mpqdeploy.run_folder import SCRATCH, Done
from mpqdeploy.search.engine import (
    Epoch,
    Event,
    Note,
    OnEvent,
    Problem,
    Result,
)
from mpqdeploy.steps.anchors import Anchors
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.demand import Demand, ask
from mpqdeploy.steps.draft import Reference, draft_round, time_draft
from mpqdeploy.steps.measure import reference_row
from mpqdeploy.steps.together import Searching
from mpqdeploy.targets.measure import at_clock_of
from mpqdeploy.tracking import open_trackers

ENGINE = "engine"
SHIPPED = "shipped"


def search(
    context: Context,
    attempt: int,
    table: CostTable,
    found: Anchors,
    earlier: Sequence[Round],
    inputs: Mapping[str, object],
    before: Done | None,
) -> Done:
    """One search with as many rounds as it takes and `refit.rounds` allows.

    `earlier` are the rounds of attempts before this one, whose engine state (`before`) is taken
    over. Result: `{"policy", "weights", "rounds", "history", "notes", "inside"}`; the engine's
    folder stays in the step's.
    """
    given = {
        **context.config.part("search", "refit", "seed", "device", "precisions", "measure"),
        **inputs,
    }

    name = f"search-{attempt}"

    def work(folder: Path) -> dict[str, object]:
        _take_over(before, folder)
        config = context.config
        with open_trackers(config.log, context.folder.path, config.snapshot()) as trackers:

            def show(epoch: Epoch) -> None:
                for tracker in trackers:
                    tracker.epoch(name, epoch)

            return _Loop(context, table, found, earlier, folder, show).run()

    return context.folder.step(name, given, work)


def _take_over(before: Done | None, folder: Path) -> None:
    """Start from a copy of the earlier attempt's engine folder; whole or not at all."""
    if before is None or (folder / ENGINE).exists():
        return
    partial = folder / f".{ENGINE}"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(before.folder / ENGINE, partial)
    partial.rename(folder / ENGINE)


class _Loop:
    """The rounds of one attempt. What was measured is on disk at once, and read again if killed."""

    def __init__(
        self,
        context: Context,
        table: CostTable,
        found: Anchors,
        earlier: Sequence[Round],
        folder: Path,
        show: Callable[[Epoch], None],
    ) -> None:
        self._context = context
        self._show = show
        self._ask = ask(context, table, found)
        self._reference = found.reference
        self._folder = folder
        self._file = folder / SCRATCH / "rounds.json"
        done = read_json(self._file) if self._file.exists() else []
        self._known = [*found.rounds, *earlier]
        self._earlier = earlier
        # Networks that no search found: the anchors, and what earlier attempts shipped.
        self._compared = len(found.rounds) + sum(t.name.startswith(SHIPPED) for t in earlier)
        self._rounds = [Round.from_json(data) for data in done]
        self._note_file = folder / SCRATCH / "notes.json"
        self._notes: list[str] = read_json(self._note_file) if self._note_file.exists() else []

    def run(self) -> dict[str, object]:
        last = self._context.config.refit.rounds - 1
        self._ask.check(self._known)
        index, result = 0, self._turn(0)
        while not self._ask.inside(self._rounds[index]) and index < last:
            index, result = index + 1, self._turn(index + 1)
        inside = self._ask.inside(self._rounds[index])
        if not inside:
            result = self._nearest(result)
        return {
            "policy": result.policy.to_json(),
            "weights": str(result.weights.relative_to(self._folder)),
            "rounds": [turn.to_json() for turn in self._rounds],
            "history": [epoch.to_json() for epoch in result.history],
            "notes": list(dict.fromkeys(self._notes)),
            "inside": inside,
        }

    def _turn(self, index: int) -> Result:
        """Search with what is known, then ask the device unless it has been asked."""
        demand = self._demand(index)
        problem = Problem(
            spec=self._context.spec,
            dataset=self._context.dataset,
            candidates=self._context.candidates,
            tables=demand.tables,
            budgets=demand.budgets,
            seed=self._context.config.seed,
            checkpoint=self._context.folder.path / "steps" / "float" / "float.pt",
            device=self._context.config.device,
            world=self._context.world,
        )
        result = Searching.lead(
            self._context, problem, self._folder / ENGINE, self._listener(problem)
        )
        if index == len(self._rounds):
            number = len(self._known) + index
            name = f"round {number - self._compared + 1}"
            record = time_draft(self._context, name, result.policy, self._reference)
            limit = next((b.limit for b in demand.budgets if b.metric == "latency"), 0.0)
            turn = draft_round(
                number, name, result.policy, demand.tables["latency"], record, limit, result.moves
            )
            self._rounds.append(turn)
            write_json(self._file, [done.to_json() for done in self._rounds])
            self._context.ui.note(f"  {describe(turn)}")
            if demand.fit is not None:
                self._context.folder.log(f"{describe(turn)} (margin {demand.fit.margin:.3f})")
        return result

    def _demand(self, index: int) -> Demand:
        """Tables and budgets of a round: corrected by every measurement before it."""
        before = self._rounds[:index]
        return self._ask.demand([*self._known, *before], [*self._earlier, *before])

    def _nearest(self, last: Result) -> Result:
        """Best so far where no round was inside: the one measured nearest to the budget."""
        best = min(range(len(self._rounds)), key=lambda i: self._rounds[i].measured.median_us)
        return last if best == len(self._rounds) - 1 else self._turn(best)

    def _listener(self, problem: Problem) -> OnEvent:
        context = self._context
        budgets: dict[str, float] = {budget.metric: budget.limit for budget in problem.budgets}

        def on_event(event: Event) -> None:
            if isinstance(event, Note):
                self._notes.append(event.message)
                write_json(self._note_file, self._notes)
                context.folder.log(event.message)
            else:
                line = progress_line(event, budgets, context.task.metric)
                context.ui.note(f"  {line}")
                context.folder.log(line)
                self._show(event)

        return on_event


def describe(turn: Round) -> str:
    """A round in a line: predicted and measured."""
    low, high = turn.measured.interval_us
    return (
        f"{turn.name}: predicted {turn.predicted_us:.1f} us, "
        f"measured {turn.measured.median_us:.1f} us [{low:.1f}, {high:.1f}]"
    )


def progress_line(epoch: Epoch, budgets: Mapping[str, float], metric: str = "top-1") -> str:
    """A search epoch in a line; `metric` names its score."""
    costs = ", ".join(
        f"E[{metric}] {value:.6g} of {budgets[metric]:.6g}"
        for metric, value in epoch.expected.items()
        if metric in budgets
    )
    turn = f", round {epoch.round + 1}" if epoch.round else ""
    return (
        f"search epoch {epoch.epoch}/{epoch.epochs}{turn}: "
        f"{metric} {100 * epoch.val_accuracy:.1f} %, "
        f"{costs}, least max p {min(epoch.max_probability.values(), default=1.0):.2f}, "
        f"{epoch.seconds:.1f} s"
    )


def load_result(step: Done) -> tuple[Policy, Path]:
    """Policy of a search step, and the file of the weights that the search left."""
    return Policy.from_json(step.result["policy"]), step.folder / step.result["weights"]


def rounds_of(step: Done) -> tuple[Round, ...]:
    return tuple(Round.from_json(data) for data in step.result["rounds"])


def shipped_round(last: Round, rows: Sequence[Row], against: Reference, attempt: int) -> Round:
    """The fine-tuned network's own measurement: one more round for the next attempt to learn from.

    What was predicted for it is what was predicted for its draft; what was measured is read at the
    reference's clock, as a draft is, where the uniform 8/8 network was timed beside it.
    """
    record = rows[-1].latency
    wide = reference_row(rows)
    if wide is not None:
        record = at_clock_of(record, wide.latency, against.record)
    return replace(last, index=last.index + 1, name=f"{SHIPPED} {attempt}", measured=record)
