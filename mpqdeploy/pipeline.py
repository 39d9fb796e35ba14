"""`run`: the whole pipeline, from a configuration to a bundle and a report.

Every box is a step in the run's folder; a step that is done is read back, so a killed run continues
where it was. The outer loop is the design's: what the device said corrects the table, and the
search goes on, until the shipped network itself, as measured, is inside the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpqdeploy.config import Config
from mpqdeploy.core import Budget, ConfigError, CostTable
from mpqdeploy.core.files import write_json
from mpqdeploy.nn.training import is_leader, joined
from mpqdeploy.results import SUMMARY, Round, Row, Summary
from mpqdeploy.run_folder import Done, RunFolder
from mpqdeploy.steps.anchors import Anchors, anchors, read_anchors
from mpqdeploy.steps.baselines import baselines
from mpqdeploy.steps.context import Context, prepare
from mpqdeploy.steps.demand import ask
from mpqdeploy.steps.deploy import deploy
from mpqdeploy.steps.finetune import finetune, from_search
from mpqdeploy.steps.floating import float_network
from mpqdeploy.steps.measure import budgets_now, measure, rows_of
from mpqdeploy.steps.present import print_plan, print_search, print_summary
from mpqdeploy.steps.profile import latency_table
from mpqdeploy.steps.profiled import print_table
from mpqdeploy.steps.report import report
from mpqdeploy.steps.rivals import rivals
from mpqdeploy.steps.search import load_result, rounds_of, search, shipped_round
from mpqdeploy.steps.ship import ship
from mpqdeploy.steps.together import follow
from mpqdeploy.study_pipeline import StudyRun
from mpqdeploy.ui import Ui


def run(
    config: Config, *, fresh: bool, dry_run: bool, ui: Ui, until: str | None = None
) -> Summary | None:
    """Run, or continue, what `config` says; up to `until` ("profile", "search").

    `until="report"` writes the report of a finished run again. Returns the summary, or None where
    it stopped earlier, and in processes that another one leads. Raises `UserError`s, none of which
    leaves anything half-written.
    """
    folder = RunFolder(config.run_dir)
    if dry_run and not is_leader():
        return None
    if dry_run:
        folder.check(config.snapshot())
        _made(prepare(config, folder, ui)).plan(until)
        return None
    if until == "report" and not (config.run_dir / SUMMARY).exists():
        raise ConfigError(
            f"run_dir: {config.run_dir} holds no finished run.", hint="Run `mpqdeploy run` first."
        )
    with joined(config.device) as world:
        if not world.leads:
            follow(config, world)
            return None
        with folder:
            made = _made(prepare(config, folder, ui, world))
            folder.claim(config.snapshot(), fresh=fresh)
            summary = made.go(until)
        world.tell(None)
        return summary


def _made(context: Context) -> _Run | StudyRun:
    """What the engine asks for: one network's bits, or networks of a space."""
    return StudyRun(context) if context.config.search.engine == "bomp-nas" else _Run(context)


@dataclass(frozen=True)
class _Run:
    context: Context

    def plan(self, until: str | None) -> None:
        print_plan(self.context, until)

    def go(self, until: str | None) -> Summary | None:
        context, ui = self.context, self.context.ui
        with ui.step("profile"):
            profiled = latency_table(context)
        table = CostTable.from_json(profiled.result)
        if until == "profile":
            print_table(context.ui, table)
            return None
        with ui.step("anchors"):
            anchored = anchors(context, table, profiled)
        found = read_anchors(anchored)
        # Before hours of training: what the two anchors say of the budgets.
        ask(context, table, found).check(found.rounds)
        with ui.step("float network"):
            floating = float_network(context)
        inputs = {"float": floating, "profile": profiled, "anchors": anchored}
        if until == "search":
            print_search(context, self._search(1, table, found, (), inputs, None), found.budgets)
            return None
        return self._loop(table, found, inputs, floating)

    def _loop(
        self, table: CostTable, found: Anchors, inputs: Mapping[str, Done], floating: Done
    ) -> Summary:
        """Search, fine-tune, deploy, measure; again while the shipped network itself is outside."""
        context = self.context
        known: tuple[Round, ...] = ()
        searched: Done | None = None
        attempt = 0
        while True:
            attempt += 1
            searched = self._search(attempt, table, found, known, inputs, searched)
            known = (*known, *rounds_of(searched))
            deployed = self._deploy_searched(attempt, searched)
            against = rivals(context, floating)
            beside = baselines(context, floating)
            measured = measure(context, attempt, deployed, beside, against, floating)
            rows = rows_of(measured)
            budgets = budgets_now(context.config.budgets, found.budgets, rows)
            known = (*known, shipped_round(known[-1], rows, found.reference, attempt))
            last = attempt == context.config.refit.rounds or not searched.result["inside"]
            if rows[-1].inside(budgets) or last:
                rounds = (*found.rounds, *known)
                return self._finish(
                    table, budgets, found.budgets, rounds, searched, deployed, rows, floating
                )
            context.ui.note("  the shipped network, as measured, is over the budget: search on")

    def _search(
        self,
        attempt: int,
        table: CostTable,
        found: Anchors,
        known: tuple[Round, ...],
        inputs: Mapping[str, Done],
        before: Done | None,
    ) -> Done:
        with self.context.ui.step(f"search, attempt {attempt}" if attempt > 1 else "search"):
            given = {**inputs, "known": [turn.to_json() for turn in known]}
            return search(self.context, attempt, table, found, known, given, before)

    def _deploy_searched(self, attempt: int, searched: Done) -> Done:
        context = self.context
        policy, weights = load_result(searched)
        name = f"searched-{attempt}"
        with context.ui.step("fine-tune the searched network"):
            tuned = finetune(
                context,
                name,
                policy,
                lambda: from_search(context, policy, weights),
                {"searched": searched},
            )
        return deploy(context, name, tuned, everywhere=True)

    def _finish(
        self,
        table: CostTable,
        budgets: tuple[Budget, ...],
        loop_budgets: tuple[Budget, ...],
        rounds: tuple[Round, ...],
        searched: Done,
        deployed: Done,
        rows: tuple[Row, ...],
        floating: Done,
    ) -> Summary:
        context = self.context
        bundle = ship(context, deployed, rows[-1], floating.result["accuracy"])
        summary = Summary(
            title=f"{context.spec.name} on {context.dataset.name}",
            metric=context.task.metric,
            budgets=budgets,
            loop_budgets=loop_budgets,
            rows=rows,
            rounds=rounds,
            bundle=str(bundle),
            report=str(context.folder.path / "report.html"),
            seconds=context.folder.seconds(),
        )
        report(context, summary, table, searched, deployed)
        write_json(context.folder.path / SUMMARY, summary.to_json())
        print_summary(context.ui, summary)
        return summary
