from __future__ import annotations

import pytest

from mpqdeploy.core import ConfigError
from mpqdeploy.nn.training import Recipe


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    recipe = Recipe(epochs=10, lr=1.0, warmup_epochs=1, final_lr_ratio=0.1)
    rates = [recipe.rate(step, 20) for step in range(200)]
    assert rates[:20] == sorted(rates[:20])
    assert 0 < rates[0] < 0.1
    assert rates[20] == pytest.approx(1.0)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_a_constant_rate_stays() -> None:
    recipe = Recipe(epochs=2, lr=0.3, schedule="constant")
    assert {recipe.rate(step, 5) for step in range(10)} == {0.3}


@pytest.mark.parametrize("field", [{"epochs": -1}, {"batch_size": 0}, {"lr": 0.0}])
def test_what_cannot_be_run_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cannot be run"):
        Recipe(**field)  # type: ignore[arg-type]
