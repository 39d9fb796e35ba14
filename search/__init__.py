"""Search: from a target's cost tables and budgets to a mixed-precision policy."""

from __future__ import annotations

from mpqdeploy.search.baselines import Random, Uniform
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.dominance import drop_dominated
from mpqdeploy.search.engine import (
    Epoch,
    Event,
    Note,
    OnEvent,
    Problem,
    Result,
    SearchEngine,
    load_network,
)
from mpqdeploy.search.penalty import Penalty
from mpqdeploy.search.reach import Reach, check_reachable
from mpqdeploy.search.refit import Refit, Round, refit
from mpqdeploy.search.sensitivity import Sensitivity, SensitivitySettings
from mpqdeploy.search.settings import BpNasSettings
from mpqdeploy.search.space import search_space

__all__ = [
    "BpNas",
    "BpNasSettings",
    "Epoch",
    "Event",
    "Note",
    "OnEvent",
    "Penalty",
    "Problem",
    "Random",
    "Reach",
    "Refit",
    "Result",
    "Round",
    "SearchEngine",
    "Sensitivity",
    "SensitivitySettings",
    "Uniform",
    "check_reachable",
    "drop_dominated",
    "load_network",
    "refit",
    "search_space",
]
