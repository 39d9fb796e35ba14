"""Which engine a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from mpqdeploy.config import SearchSection
from mpqdeploy.search.baselines import Random, Uniform
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.engine import SearchEngine
from mpqdeploy.search.penalty import Penalty
from mpqdeploy.search.sensitivity import Sensitivity, SensitivitySettings


def make_engine(section: SearchSection) -> SearchEngine:
    """The engine that `search.engine` names, with its settings. Raises `ConfigError`.

    `bomp-nas`, which searches architectures too, is another pipeline's (`study_pipeline`).
    """
    made: dict[str, Callable[[], SearchEngine]] = {
        "bp-nas": lambda: BpNas(section.settings()),
        "penalty": lambda: _penalty(section),
        "sensitivity": lambda: _sensitivity(section),
        "uniform": Uniform,
        "random": Random,
    }
    return made[section.engine]()


def _penalty(section: SearchSection) -> Penalty:
    return Penalty(
        section.settings(), weight=section.penalty_weight, searches=section.penalty_searches
    )


def _sensitivity(section: SearchSection) -> Sensitivity:
    settings = SensitivitySettings(
        curvature=section.sensitivity,
        images=section.sensitivity_images,
        probes=section.sensitivity_probes,
    )
    return Sensitivity(settings)
