"""The difference between what a study was made for and what it is opened for."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from mpqdeploy.core import ConfigError
from mpqdeploy.search.bomp.identity import claim_study, differences
from tests.search.bomp.problems import LAYERED


def test_leaves_are_compared_by_dotted_name() -> None:
    one = {"seed": 1, "budgets": {"bytes": 2.0}, "space": LAYERED.to_json()}
    assert differences(one, {**one, "space": LAYERED.to_json()}) == []
    other = {"seed": 1, "budgets": {"bytes": 2.0, "bops": 3.0}, "space": LAYERED.to_json()}
    assert differences(one, other) == ["budgets.bops: absent there, 3.0 here"]
    assert differences(other, one) == ["budgets.bops: 3.0 there, absent here"]


def test_tuples_are_what_they_become_on_disk() -> None:
    assert differences({"values": [1, 2]}, {"values": (1, 2)}) == []


def test_a_study_of_another_program_is_left_alone(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="theirs")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ConfigError, match="'theirs' was not made by this program"):
        claim_study(study, {"seed": 0})
    assert study.user_attrs == {}


def test_many_differences_are_cut_short() -> None:
    study = optuna.create_study(study_name="ours")
    claim_study(study, {str(key): 0 for key in range(9)})
    with pytest.raises(ConfigError, match="4: 0 there, 1 here, and 4 more"):
        claim_study(study, {str(key): 1 for key in range(9)})
