"""What a study shows while it runs: a line per trial, and the report rewritten now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mpqdeploy.core import UserError
from mpqdeploy.report.render import UNITS, amount
from mpqdeploy.search.bomp import Study, StudySettings, Trial
from mpqdeploy.search.bomp.finding import best_of, overrun
from mpqdeploy.steps.context import Context

# Between two reports: one is some megabytes, and its importances take a second.
REPORT_EVERY_S = 20.0

Show = Callable[[Sequence[Trial]], None]


class Listener:
    """Hears of every trial that this run finishes. `show` writes the report."""

    def __init__(self, context: Context, show: Show) -> None:
        self._context = context
        self._show = show
        self._settings = context.config.search.bomp.settings(context.config.seed)
        self._started = self._shown = time.monotonic()
        self._study: Study | None = None
        self._before = 0

    def start(self, study: Study) -> None:
        """Trials that are done already are another run's, and no measure of this one's pace."""
        self._study = study
        self._before = _finished(study.trials())
        self._started = time.monotonic()
        if self._before:
            self._context.ui.note(f"  {self._before} trials were done before")

    def __call__(self, trial: Trial) -> None:
        if self._study is None:
            return
        trials = self._study.trials()
        line = trial_line(trial, trials, self._settings, self._left(trials))
        self._context.ui.note(f"  {line}")
        self._context.folder.log(line)
        if time.monotonic() - self._shown > REPORT_EVERY_S:
            self._show(trials)
            self._shown = time.monotonic()

    def _left(self, trials: Sequence[Trial]) -> float:
        """Seconds, at the pace of all workers since this one began."""
        finished = _finished(trials)
        pace = (time.monotonic() - self._started) / max(finished - self._before, 1)
        return pace * max(self._settings.trials - finished, 0)


def trial_line(
    trial: Trial, trials: Sequence[Trial], settings: StudySettings, left_s: float
) -> str:
    """A trial in a line: score, accuracy, costs, verdict; the best so far; seconds left."""
    count = f"trial {trial.number} ({_finished(trials)}/{settings.trials})"
    ending = f"{_best(trials, settings)}, {_minutes(left_s)} left"
    if trial.outcome is None:
        return f"{count}: failed: {trial.reason} ({ending})"
    score = settings.wanted.values(trial.outcome)[0]
    costs = ", ".join(
        amount(cost, UNITS[metric]) for metric, cost in sorted(trial.outcome.costs.items())
    )
    accuracy = f"{100 * trial.outcome.accuracy:.1f} %"
    verdict = overrun(trial) or "inside"
    return f"{count}: score {score:.4f}, accuracy {accuracy}, {costs}; {verdict} ({ending})"


def _best(trials: Sequence[Trial], settings: StudySettings) -> str:
    try:
        best = best_of(trials, settings.wanted)
    except UserError:
        return "none inside so far"
    accuracy = best.outcome.accuracy if best.outcome else 0.0
    return f"best: trial {best.number} with {100 * accuracy:.1f} %"


def _finished(trials: Sequence[Trial]) -> int:
    return sum(trial.state != "running" for trial in trials)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
