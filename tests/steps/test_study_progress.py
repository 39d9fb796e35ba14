"""The line of a trial."""

from __future__ import annotations

from mpqdeploy.search.bomp import Outcome, StudySettings, Trial
from mpqdeploy.steps.study_progress import trial_line

SETTINGS = StudySettings(trials=20)


def trial(number: int, accuracy: float, over: float = -0.1) -> Trial:
    return Trial(
        number=number,
        state="complete",
        point={},
        outcome=Outcome(
            accuracy=accuracy, costs={"latency": 18.25, "bytes": 9216.0, "bops": 1.4e7}
        ),
        violations={"latency": over, "bytes": -0.2},
    )


def test_a_trial_shows_score_costs_verdict_best_and_time_left() -> None:
    trials = [trial(0, 0.92), trial(1, 0.8765)]
    assert trial_line(trials[1], trials, SETTINGS, 300.0) == (
        "trial 1 (2/20): score 0.8765, accuracy 87.6 %, 14 MBOPs, 9 KiB, 18.25 µs; inside "
        "(best: trial 0 with 92.0 %, 5 min left)"
    )


def test_one_over_a_budget_says_by_how_much_and_is_no_best() -> None:
    outside = trial(0, 0.99, over=0.31)
    line = trial_line(outside, [outside], SETTINGS, 42.0)
    assert "; latency 31.0 % over (none inside so far, 42 s left)" in line


def test_a_failed_one_says_why() -> None:
    failed = Trial(number=3, state="failed", point={}, reason="training diverged.")
    running = Trial(number=4, state="running", point={})
    line = trial_line(failed, [failed, running], SETTINGS, 60.0)
    assert line == ("trial 3 (1/20): failed: training diverged. (none inside so far, 60 s left)")
