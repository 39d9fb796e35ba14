"""Study: the trials of bomp-nas, a line each, and the front that they leave."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import Budget, ConfigError
from mpqdeploy.run_folder import SCRATCH, Done
from mpqdeploy.search.bomp import Study, Trial
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.search.bomp.reachable import check_smallest
from mpqdeploy.search.bomp.study import check_settings
from mpqdeploy.steps.ahead import Ahead
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.draft import Reference
from mpqdeploy.steps.fastest import check_latency
from mpqdeploy.steps.study_progress import Listener
from mpqdeploy.steps.trial import Trials

JOURNAL = "study.journal"


def check_study(context: Context, networks: Networks) -> None:
    """Raise `ConfigError` for a key that means one fixed network, for several processes, and for
    settings that no study can have."""
    config = context.config
    fixed = {
        "model.checkpoint": config.model.checkpoint,
        "model.backbone": config.model.backbone,
        "model.pins": config.model.pins,
        "search.exclude": config.search.exclude,
    }
    for key, value in fixed.items():
        if value:
            raise ConfigError(
                f"{key}: bomp-nas builds many networks, and this is for one.", hint="Leave it out."
            )
    if context.world.size > 1:
        raise ConfigError(
            "bomp-nas does not share a trial among processes.",
            hint="Start one run each, with a run_dir of its own and one search.study for all.",
        )
    # What the limits are in µs is measured later; that there are any is known now.
    limits = [section.parsed() for section in config.budgets]
    budgets = [Budget(metric=limit.metric, limit=limit.value) for limit in limits]
    check_settings(networks.space, budgets, config.search.bomp.settings(config.seed))


def networks_of(context: Context) -> Networks:
    """The space that the configuration describes. Raises `ConfigError` for what has none."""
    return Networks(context.spec, context.precisions, context.config.search.bomp.space.choices())


def study(
    context: Context,
    networks: Networks,
    against: Reference,
    budgets: tuple[Budget, ...],
    referenced: Done,
    listener: Listener,
) -> Done:
    """Result: `{"trials"}`, all of them, in whichever worker they ran.

    Without `search.study` the journal lies in the step's folder. Raises `BudgetError` for a budget
    that the smallest networks exceed, `ConfigError` for a study of another space or budget.
    """
    inputs = {
        **context.config.part("search", "train", "finetune", "precisions", "seed", "device"),
        "reference": referenced,
    }

    def work(folder: Path) -> dict[str, object]:
        check_smallest(networks, budgets)
        check_latency(context, networks, against, budgets)
        opened = _open(context, networks, budgets, folder)
        listener.start(opened)
        with Ahead() as ahead:
            trials = Trials(
                context=context,
                networks=networks,
                against=against,
                ahead=ahead,
                scratch=folder / SCRATCH,
            )
            opened.run(trials, on_trial=listener)
        return {"trials": [trial.to_json() for trial in opened.trials()]}

    return context.folder.step("study", inputs, work)


def _open(context: Context, networks: Networks, budgets: tuple[Budget, ...], folder: Path) -> Study:
    search = context.config.search
    name = search.study_name or f"{context.spec.name}-{context.dataset.name}"
    return Study.open(
        search.study or str(folder / JOURNAL),
        name,
        networks.space,
        budgets,
        search.bomp.settings(context.config.seed),
        on_note=context.ui.warn,
    )


def trials_of(done: Done) -> tuple[Trial, ...]:
    return tuple(Trial.from_json(data) for data in done.result["trials"])
