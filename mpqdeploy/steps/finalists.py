"""Finalists: the networks of the front, each trained in full, compiled and certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpqdeploy.run_folder import Done
from mpqdeploy.search.bomp import Trial
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.deploy import deploy
from mpqdeploy.steps.finetune import finetune, from_float
from mpqdeploy.steps.floating import WEIGHTS, float_network


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial's network after the full training. `context` is the run's, about this network."""

    name: str
    context: Context
    floating: Done
    deployed: Done
    trial: Trial


def chosen(front: Sequence[Trial], best: Trial, most: int) -> tuple[Trial, ...]:
    """`best` and at most `most - 1` others of the front, evenly along it, by cost.

    Both ends are among them where there is room.
    """
    others = [trial for trial in front if trial.number != best.number]
    room = min(most - 1, len(others))
    steps = max(room - 1, 1)
    picked = {round(index * (len(others) - 1) / steps) for index in range(room)}
    kept = {best.number, *(others[position].number for position in picked)}
    line = front if best in front else (*front, best)
    return tuple(trial for trial in line if trial.number in kept)


def name_of(trial: Trial) -> str:
    """What a finalist's steps and its row are called."""
    return f"trial-{trial.number}"


def finalist(context: Context, networks: Networks, trial: Trial) -> Finalist:
    """Train a trial's network from scratch as `train` and `finetune` say, and deploy it."""
    network = networks.network(trial.point)
    place = context.about(network.spec, network.sites)
    name = name_of(trial)
    with context.ui.step(f"train trial {trial.number} in full"):
        shape = {"options": dict(network.spec.options)}
        floating = float_network(place, f"float-{name}", shape)
        tuned = finetune(
            place,
            name,
            network.policy,
            lambda: from_float(place, network.policy, floating.folder / WEIGHTS),
            {"float": floating},
        )
    deployed = deploy(place, name, tuned, everywhere=False)
    return Finalist(name=name, context=place, floating=floating, deployed=deployed, trial=trial)
