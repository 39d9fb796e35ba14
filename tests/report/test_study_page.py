"""The page of a study: before a trial, while it runs, without and with a network inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpqdeploy.core import Budget, parse_precisions
from mpqdeploy.nn import ModelSpec
from mpqdeploy.report.study_page import StudyMaterial, render_study
from mpqdeploy.search.bomp import Outcome, Trial
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.search.bomp.score import violations

NETWORKS = Networks(
    ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8)),
    parse_precisions(("8/8", "4/4")),
)
BUDGETS = (Budget(metric="latency", limit=20.0),)


def trials(latencies: list[float]) -> list[Trial]:
    rng = np.random.default_rng(0)
    found = []
    for number, latency in enumerate(latencies):
        point = NETWORKS.space.sample(rng)
        network = NETWORKS.network(point)
        accuracy = 0.5 + 0.02 * latency
        outcome = Outcome(
            accuracy=accuracy,
            costs={**network.counted, "latency": latency},
            seconds=12.0,
            details={
                "accuracies": {"float32": 0.9, "quantized": 0.4, "tuned": accuracy},
                "policy": network.policy.to_json(),
            },
        )
        over = violations(outcome.costs, BUDGETS)
        found.append(
            Trial(number=number, state="complete", point=point, outcome=outcome, violations=over)
        )
    return found


def page(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "title": "mobile_digits on digits",
        "metric": "latency",
        "ceiling": 20.0,
        "wanted": 9,
        "budgets": BUDGETS,
        "space": NETWORKS.space,
        "trials": [],
        "summary": None,
        "tested": {},
        "machine": {"CPU": "a <fast> one"},
        "config": "seed: 0",
    }
    return render_study(StudyMaterial(**{**fields, **changes}), "PLOTLY")


def test_a_study_that_runs() -> None:
    failed = Trial(number=4, state="failed", point={}, reason="training <diverged>.")
    running = Trial(number=5, state="running", point={})
    html = page(trials=[*trials([10.0, 15.0, 18.0, 30.0]), failed, running])
    assert "5 of 9 trials" in html
    assert "latency 50.0 % over" in html  # trial 3
    assert "training &lt;diverged&gt;." in html
    assert "trained in full" not in html
    # Every network of the front with its bits; the one over the budget is not of it.
    assert [f"<h3>trial {number}</h3>" in html for number in range(4)] == [True, True, True, False]
    assert "stages.1.0.conv.0.0" in html
    assert "Functional ANOVA" in html
    assert "a &lt;fast&gt; one" in html


def test_before_the_first_trial_and_without_one_inside() -> None:
    assert "0 of 9 trials" in page()
    html = page(trials=trials([25.0, 30.0]))
    assert "no network inside the budgets" in html
    assert "nearest: trial 0, latency 25.0 % over" in html
    assert "Too few trials yet." in html
