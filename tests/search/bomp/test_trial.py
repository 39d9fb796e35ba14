"""Outcomes and trials: what is no figure is refused, and everything goes to JSON and back."""

from __future__ import annotations

import json
import math

import pytest

from mpqdeploy.core import Budget, ModelError
from mpqdeploy.search.bomp.trial import Outcome, Trial
from tests.search.bomp.problems import completed, formula

POINT = {"kernel": "wide", "depth": 1, "bits1": 8}


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (Outcome(accuracy=math.nan, costs={}), "accuracy is nan"),
        (Outcome(accuracy=0.5, costs={"latency": math.inf}), "latency is inf"),
        (Outcome(accuracy=0.5, costs={"bytes": 0.0}), "bytes is 0"),
    ],
)
def test_what_is_no_figure_is_refused(outcome: Outcome, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        outcome.check()


def test_feasible_is_complete_and_inside_every_budget() -> None:
    inside, outside = Budget(metric="bytes", limit=960.0), Budget(metric="bops", limit=79e3)
    assert completed(0, POINT, formula(POINT), inside).feasible
    assert not completed(0, POINT, formula(POINT), inside, outside).feasible
    assert completed(0, POINT, formula(POINT)).feasible
    assert not Trial(number=0, state="failed", point=POINT, reason="no").feasible
    assert not Trial(number=0, state="running", point=POINT).feasible


def test_json_round_trip() -> None:
    whole = completed(3, POINT, formula(POINT), Budget(metric="bytes", limit=960.0))
    for trial in (whole, Trial(number=1, state="failed", point=POINT, reason="no")):
        assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial
