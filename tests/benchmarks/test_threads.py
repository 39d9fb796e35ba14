from __future__ import annotations

import os
from pathlib import Path

import pytest
from networks.zoo import network
from threads import COLUMNS, compare


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_a_row_is_a_ratio_with_its_interval(tmp_path: Path) -> None:
    row = dict(zip(COLUMNS, compare(network("resnet20"), 2, 5, tmp_path), strict=True))
    low, high = (float(value) for value in row["95%"].strip("[]").split(","))
    assert 0.1 < low <= float(row["speed"]) <= high < 2.5
    assert float(row["us"]) > 0
