"""Aims against measurements that are made up."""

from __future__ import annotations

from typing import Any

import pytest
from networks.aims import AIMS, Aim, Measure
from networks.verdicts import COLUMNS, verdicts
from networks.zoo import NETWORKS


def row(precision: str, us: float, **more: Any) -> dict[str, Any]:
    known = {"runtime": "mpqdeploy", "precision": precision, "median_us": us, "limit_us": 6.0}
    samples = [us * turn for turn in (1, 8, 1, 8)]  # turns in which the machine was busy
    return {**known, "ratio": 1.4, "file_bytes": 100, "samples_us": samples, **more}


def aim(measure: Measure, wanted: float, precision: str = "4/4") -> Aim:
    return Aim(network="net", precision=precision, measure=measure, wanted=wanted)


NETWORK = {
    "net": {
        "rows": [
            row("8/8", 10.0, runtime="openvino", ratio=1.0),
            row("8/8", 9.0),
            row("8/8", 8.0, file_bytes=80),
            row("4/4", 6.4, file_bytes=60),
        ],
        "making": [
            {
                "precision": "4/4",
                "compile_seconds": 12.0,
                "tuning": {"timed": 3, "total": 3, "seconds": 200.0},
                "layers": {
                    "first": {"precision": "8/8", "constant_bytes": 50},
                    "one": {"precision": "4/4", "constant_bytes": 6},
                    "other": {"precision": "4/4", "constant_bytes": 5},
                },
            },
            {
                "precision": "8/8",
                "compile_seconds": 9.0,
                "tuning": {"timed": 0, "total": 3, "seconds": 0.1},
                "layers": {
                    "first": {"precision": "8/8", "constant_bytes": 50},
                    "one": {"precision": "8/8", "constant_bytes": 12},
                    "other": {"precision": "8/8", "constant_bytes": 10},
                },
            },
        ],
    }
}


@pytest.mark.parametrize(
    ("wanted", "here", "said"),
    [
        (aim(Measure.PEER, 1.5), 1.4, "missed by 7%"),
        (aim(Measure.PEER, 1.404), 1.4, "missed by less than 1%"),
        (aim(Measure.PEER, 1.4), 1.4, "met"),
        (aim(Measure.LIMIT, 0.8), 6 / 6.4, "met"),
        (aim(Measure.OWN, 1.0), 8 / 6.4, "met"),
        (aim(Measure.BYTES, 0.5), 60 / 80, "missed by 50%"),
        (aim(Measure.LAYERS, 0.5), 11 / 22, "met"),
        (aim(Measure.LAYERS, 0.5, "1/1"), None, "not measured"),
        (aim(Measure.COMPILE, 30), 12.0, "met"),
        (aim(Measure.TUNE, 180), 200.0, "missed by 11%"),
        (aim(Measure.TUNE, 180, "8/8"), None, "not measured"),
        (aim(Measure.PEER, 1.5, "1/1"), None, "not measured"),
    ],
)
def test_verdicts(wanted: Aim, here: float | None, said: str) -> None:
    (found,) = verdicts([wanted], NETWORK)
    assert found.here == (None if here is None else pytest.approx(here))
    assert found.cells()[-1] == said
    assert len(found.cells()) == len(COLUMNS)
    assert found.to_json()["met"] == {"met": True, "not measured": None}.get(said, False)


def test_networks_that_were_not_asked_for_have_no_verdict() -> None:
    assert verdicts([aim(Measure.PEER, 1.0)], {"other": NETWORK["net"]}) == []


def test_every_aim_is_measured_unless_told_otherwise() -> None:
    for one in AIMS:
        assert one.precision in NETWORKS[one.network].policies
    assert {one.network for one in AIMS} == set(NETWORKS)
