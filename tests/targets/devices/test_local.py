from __future__ import annotations

import os

import pytest

from mpqdeploy.core import TargetError
from mpqdeploy.targets import target as module
from mpqdeploy.targets.devices import LocalDevice, pinned
from mpqdeploy.targets.target import load_target

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system sets no affinity"
)


@needs_affinity
def test_pinned_keeps_to_one_processor_and_gives_back_all() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_pinned_gives_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), pinned(1):
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_a_target_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(TargetError, match="'x86-64-avx2' cannot run on this machine"):
        LocalDevice(load_target("x86-64-avx2"))
