"""The maths of the comparison's table, on records that are made up."""

from __future__ import annotations

import pytest
from networks.table import (
    COLUMNS,
    MAKING,
    OURS,
    STEPS,
    Row,
    better_peer,
    cells,
    limit_us,
    making_cells,
    step_cells,
    to_json,
)

from mpqdeploy.core import Fingerprint, LatencyRecord, Protocol

HERE = Fingerprint(cpu="test", features=(), cores=1, tvm="none", system="none")


def record(*samples: float) -> LatencyRecord:
    return LatencyRecord(samples_us=samples, protocol=Protocol(), fingerprint=HERE)


def row(runtime: str, *samples: float) -> Row:
    latency = record(*samples)
    return Row(runtime=runtime, precision="8/8", how="u8s8", latency=latency, file_bytes=1234)


def test_the_better_peer_is_not_us() -> None:
    rows = [row("onnxruntime", 12.0), row("openvino", 9.0), row(OURS, 1.0)]
    assert better_peer(rows).runtime == "openvino"


def test_the_limit_scales_with_the_multiplications() -> None:
    assert limit_us(3_000, 1_000, record(5.0, 4.0, 6.0)) == 15.0


def test_a_row_is_held_against_its_peer_and_the_limit() -> None:
    data = to_json(row(OURS, *[4000.0] * 9), row("openvino", *[6000.0] * 9), 3000.0)
    assert (data["ratio"], data["ratio_interval"]) == (1.5, [1.5, 1.5])
    line = dict(zip(COLUMNS, cells(data), strict=True))
    assert line["ms"] == "4.000"
    assert line["x int8 peer"] == "1.50"
    assert line["of limit"] == "75%"
    assert line["bytes"] == "1,234"


def test_without_a_limit_there_is_no_share_of_it() -> None:
    data = to_json(row(OURS, 1.0), row("openvino", 1.0), None)
    assert cells(data)[COLUMNS.index("of limit")] == "-"


def test_a_library_s_making_is_one_line() -> None:
    made = {
        "precision": "2/4",
        "how": "tuned",
        "compile_seconds": 9.26,
        "flips": None,
        "kernels": {"a": "dot", "b": "pool", "c": "dot"},
    }
    tuning = {"tuning": {"timed": 3, "total": 5, "seconds": 2.0}, "from_database_seconds": 0.1}
    untuned = making_cells(made)
    tuned = dict(zip(MAKING, making_cells({**made, **tuning}), strict=True))
    assert untuned == ["2/4", "tuned", "9.3", "-", "-", "-", "-", "2 dot 1 pool"]
    assert (tuned["candidates timed"], tuned["tune s"]) == ("3 of 5", "2.0")


@pytest.mark.parametrize(("macs", "rate", "share"), [(2_000_000, "200", "50%"), (0, "-", "-")])
def test_a_step_s_rate_is_a_share_of_the_peak(macs: int, rate: str, share: str) -> None:
    step = {
        "name": "conv1",
        "layer": "3x3 3>16 on 32x32",
        "precision": "8/8",
        "kernel": "dot",
        "schedule": {"rows": 1, "columns": 14},
        "macs": macs,
        "median_us": 10.0,
        "gmacs": macs / 10.0 / 1e3,
    }
    line = dict(zip(STEPS, step_cells(step, 400.0), strict=True))
    assert (line["GMAC/s"], line["of limit"]) == (rate, share)
    assert line["schedule"] == "rows=1 columns=14"
