"""The peak kernel makes as many multiply-accumulates as it says, where the CPU has vpdpbusd."""

from __future__ import annotations

import time

import pytest
from networks import limit

from mpqdeploy.targets.target import load_target


def test_a_target_without_vnni_has_no_limit() -> None:
    assert limit.peak_run(load_target("x86-64-avx2")) is None


def test_the_peak_is_one_that_a_core_can_have() -> None:
    target = load_target("x86-64-vnni")
    if target.missing():
        pytest.skip(f"this CPU lacks {target.missing()[0]}")
    run = limit.peak_run(target)
    assert run is not None
    samples = []
    for _ in range(20):
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    # No more than two vpdpbusd of 64 MACs a cycle at 6 GHz: else the loop was optimised away.
    assert 10e9 < limit.MACS / min(samples) < 2 * 64 * 6e9
