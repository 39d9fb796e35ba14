"""`run` with bomp-nas: from a space of networks to a front of bundles and a report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial

from mpqdeploy.core import Budget, CostTable
from mpqdeploy.core.files import write_json
from mpqdeploy.results import SUMMARY, Row, Summary
from mpqdeploy.search.bomp import Trial
from mpqdeploy.search.bomp.finding import best_of, front_of
from mpqdeploy.steps.baselines import baselines
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.finalists import Finalist, chosen, finalist, name_of
from mpqdeploy.steps.floating import float_network
from mpqdeploy.steps.measure import budgets_now, rows_of
from mpqdeploy.steps.measure_front import Comparison, measure_front
from mpqdeploy.steps.present import print_summary
from mpqdeploy.steps.present_study import print_front, print_study_plan
from mpqdeploy.steps.profile import latency_table
from mpqdeploy.steps.profiled import print_table
from mpqdeploy.steps.reference import clock, read_reference
from mpqdeploy.steps.rivals import rivals
from mpqdeploy.steps.ship import BUNDLE, ship
from mpqdeploy.steps.study import check_study, networks_of, study, trials_of
from mpqdeploy.steps.study_progress import Listener
from mpqdeploy.steps.study_report import REPORT, study_report

PARETO = "pareto"


class StudyRun:
    """One run. Raises `ConfigError` for a configuration that bomp-nas cannot take."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks = networks_of(context)
        check_study(context, self._networks)
        self._bomp = context.config.search.bomp
        self._objective = self._bomp.settings(context.config.seed).wanted

    def plan(self, until: str | None) -> None:
        """Print what `go` would do."""
        print_study_plan(self._context, self._networks, until)

    def go(self, until: str | None) -> Summary | None:
        """Run or continue, up to `until`. Raises `BudgetError` where no trial is inside."""
        context = self._context
        if until == "profile":
            print_table(context.ui, CostTable.from_json(latency_table(context).result))
            return None
        with context.ui.step("reference"):
            referenced = clock(context)
        against, budgets = read_reference(referenced)
        show = partial(study_report, context, self._networks.space, against, budgets)
        with context.ui.step("study"):
            listener = Listener(context, show)
            done = study(context, self._networks, against, budgets, referenced, listener)
        trials = trials_of(done)
        if until != "report":
            show(trials)
        best = best_of(trials, self._objective)
        front = front_of(trials, self._bomp.front)
        if until == "search":
            print_front(context.ui, front, best, self._bomp.front)
            return None
        picked = chosen(front, best, self._bomp.pareto)
        summary = self._finish(picked, budgets)
        accuracies = {row.name: row.accuracy for row in summary.rows}
        show(trials, summary, {trial.number: accuracies[name_of(trial)] for trial in picked})
        write_json(context.folder.path / SUMMARY, summary.to_json())
        print_summary(context.ui, summary)
        return summary

    def _finish(self, picked: Sequence[Trial], loop_budgets: tuple[Budget, ...]) -> Summary:
        context = self._context
        finalists = [finalist(context, self._networks, trial) for trial in picked]
        rows = rows_of(measure_front(context, finalists, self._beside()))
        budgets = budgets_now(context.config.budgets, loop_budgets, rows)
        found = {row.name: row for row in rows}
        winner = self._winner(finalists, found, budgets)
        bundles = self._ship(finalists, winner, found)
        ordered = [row for row in rows if row.name != winner.name]
        return Summary(
            title=f"{context.spec.name} on {context.dataset.name}",
            metric=context.task.metric,
            budgets=budgets,
            loop_budgets=loop_budgets,
            rows=(*ordered, found[winner.name]),
            rounds=(),
            bundle=bundles[winner.name],
            pareto=tuple(path for name, path in bundles.items() if name != winner.name),
            report=str(context.folder.path / REPORT),
            seconds=context.folder.seconds(),
        )

    def _beside(self) -> Comparison | None:
        """The configured network in full, unless `baselines` is empty."""
        context = self._context
        if not context.config.baselines:
            return None
        with context.ui.step("float network of the baselines"):
            floating = float_network(context)
        against = rivals(context, floating)
        return Comparison(floating=floating, rivals=against, baselines=baselines(context, floating))

    def _winner(
        self, finalists: Sequence[Finalist], rows: dict[str, Row], budgets: tuple[Budget, ...]
    ) -> Finalist:
        """The best one by its trial that is inside as measured now; else the best one.

        By its trial, because the test set is there to judge the choice and not to make it.
        """
        order = self._objective.order([one.trial for one in finalists])
        ranked = sorted(finalists, key=lambda one: order.index(one.trial))
        inside = [one for one in ranked if rows[one.name].inside(budgets)]
        return (inside or ranked)[0]

    def _ship(
        self, finalists: Sequence[Finalist], winner: Finalist, rows: dict[str, Row]
    ) -> dict[str, str]:
        """Bundles by finalist: the winner's in `bundle`, the others numbered by cost."""
        shutil.rmtree(self._context.folder.path / PARETO, ignore_errors=True)
        bundles = {}
        others = [one for one in finalists if one is not winner]
        for number, one in enumerate([winner, *others]):
            place = f"{PARETO}/{number:02}" if number else BUNDLE
            accuracy = one.floating.result["accuracy"]
            folder = ship(one.context, one.deployed, rows[one.name], accuracy, place)
            bundles[one.name] = str(folder)
        return bundles
