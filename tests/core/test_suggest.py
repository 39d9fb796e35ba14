from __future__ import annotations

from mpqdeploy.core.suggest import did_you_mean


def test_a_close_name_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("layer1.0.conv", ["conv1", "layer1.0.conv1"]) == (
        "Did you mean layer1.0.conv1? "
    )
    assert did_you_mean("zzz", ["conv1", "layer1.0.conv1"]) == ""
