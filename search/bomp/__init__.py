"""BOMP-NAS: architecture and bit widths by Bayesian optimization."""

from __future__ import annotations

from mpqdeploy.search.bomp.parameters import Categorical, Ordinal, Parameter, Point, Value, When
from mpqdeploy.search.bomp.score import Score
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.study import Outcome, Study, StudySettings, Trial

__all__ = [
    "Categorical",
    "Ordinal",
    "Outcome",
    "Parameter",
    "Point",
    "Score",
    "Space",
    "Study",
    "StudySettings",
    "Trial",
    "Value",
    "When",
]
