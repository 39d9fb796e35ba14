from __future__ import annotations

from typing import get_args

import pytest

from mpqdeploy.config import SearchSection
from mpqdeploy.search.penalty import Penalty
from mpqdeploy.search.sensitivity import Sensitivity, SensitivitySettings
from mpqdeploy.steps.engine import make_engine

ENGINES = get_args(SearchSection.model_fields["engine"].annotation)
OF_A_FIXED_ARCHITECTURE = [name for name in ENGINES if name != "bomp-nas"]
"""bomp-nas is a pipeline of its own (`study_pipeline`), no engine of this seam."""


@pytest.mark.parametrize("name", OF_A_FIXED_ARCHITECTURE)
def test_every_engine_that_can_be_named_is_made(name: str) -> None:
    engine = make_engine(SearchSection(engine=name))
    assert engine.name == name.replace("-", "")


def test_the_engines_get_their_settings() -> None:
    section = SearchSection(
        engine="penalty", penalty_weight=0.5, penalty_searches=3, mode="factorized", epochs=2
    )
    penalty = make_engine(section)
    assert isinstance(penalty, Penalty)
    assert (penalty.weight, penalty.searches) == (0.5, 3)
    assert (penalty.settings.mode, penalty.settings.epochs) == ("factorized", 2)
    section = SearchSection(
        engine="sensitivity", sensitivity="fisher", sensitivity_images=10, sensitivity_probes=4
    )
    sensitivity = make_engine(section)
    assert isinstance(sensitivity, Sensitivity)
    assert sensitivity.settings == SensitivitySettings(curvature="fisher", images=10, probes=4)


def test_defaults_are_those_of_the_engines() -> None:
    penalty, sensitivity = (
        make_engine(SearchSection(engine=name)) for name in ("penalty", "sensitivity")
    )
    assert isinstance(penalty, Penalty)
    assert isinstance(sensitivity, Sensitivity)
    assert vars(penalty) == vars(Penalty())
    assert sensitivity.settings == SensitivitySettings()
