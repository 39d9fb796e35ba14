from __future__ import annotations

import pytest

from mpqdeploy.core import ConfigError
from mpqdeploy.search.schedule import Schedule
from mpqdeploy.search.settings import BpNasSettings

SETTINGS = BpNasSettings(epochs=10, refit_epochs=4, warmup=0.3, adapt=0.2, prob1_weight=2.0)
FIRST = Schedule(settings=SETTINGS, steps=5, refit=False)


def test_prob1_is_silent_through_the_warm_up_and_full_at_the_decision() -> None:
    weights = [FIRST.prob1_weight(e, s) for e in range(FIRST.deciding) for s in range(5)]
    assert weights[0] == 0.0
    assert sum(w == 0.0 for w in weights) == pytest.approx(0.3 * len(weights), abs=1)
    assert weights == sorted(weights)
    assert weights[-1] == pytest.approx(2.0)


def test_the_decision_leaves_the_last_epochs_to_the_weights() -> None:
    assert FIRST.deciding == 8
    assert Schedule(settings=SETTINGS, steps=5, refit=True).deciding == 3
    one = BpNasSettings(epochs=1)
    assert Schedule(settings=one, steps=5, refit=False).deciding == 1


def test_the_rate_falls_from_lr_to_its_share_and_stays_low_while_refitting() -> None:
    assert FIRST.rate(0, 0) == pytest.approx(SETTINGS.lr)
    low = SETTINGS.lr * SETTINGS.final_lr_ratio
    assert FIRST.rate(9, 4) == pytest.approx(low)
    assert Schedule(settings=SETTINGS, steps=5, refit=True).rate(0, 0) == pytest.approx(low)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("steps", 0), ("lr", 0.0), ("warmup", 1.0), ("one_hot", 1.0)],
)
def test_a_setting_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"search.{name}"):
        BpNasSettings(**{name: value})  # type: ignore[arg-type]
